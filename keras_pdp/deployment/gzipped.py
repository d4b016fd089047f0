"""What a file weighs once an app store or a web server has compressed it."""

import gzip

GZIP_LEVEL = 6


def gzipped_size(data: bytes) -> int:
    """Bytes of `data` gzipped, without a time stamp: the same in every run."""
    return len(gzip.compress(data, compresslevel=GZIP_LEVEL, mtime=0))

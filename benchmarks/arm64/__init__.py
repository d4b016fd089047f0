"""The unmodified aarch64 wheel of ai-edge-litert, under QEMU on another processor."""

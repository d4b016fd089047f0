"""The browser as a measuring device: `browser.Browser` and a page for people."""

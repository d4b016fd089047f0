// A headless browser that talks to nobody but localhost.

import { chromium } from "playwright-core";

const FLAGS = [
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** A browser context with a new profile in an empty folder. */
export function launch(executablePath, profile, options = {}) {
  return chromium.launchPersistentContext(profile, {
    executablePath,
    headless: true,
    chromiumSandbox: false, // the sandbox does not start for root, as in containers
    args: FLAGS,
    ...options,
  });
}

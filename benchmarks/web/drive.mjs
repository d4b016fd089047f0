// Drives a headless browser for browser.py.
//
//     node drive.mjs CHROMIUM EXCHANGE PROFILE
//
// One JSON object a line: first {"ready": …}; then, for each line {"jobs": …} on the
// standard input, one answer. The end of the input ends the browser.

import { createInterface } from "node:readline";
import { launch } from "./launch.mjs";
import { serve } from "./server.mjs";

const [executablePath, exchange, profile] = process.argv.slice(2);
const say = (value) => process.stdout.write(JSON.stringify(value) + "\n");

const server = await serve(0, exchange);
const context = await launch(executablePath, profile);
say({ ready: { browser: context.browser()?.version() ?? "" } });

for await (const line of createInterface({ input: process.stdin })) {
  try {
    say(await measured(JSON.parse(line)));
  } catch (error) {
    say({ error: String(error?.message ?? error) });
  }
}
await context.close();
server.close();

/** Runs the jobs in a page of their own: what one leaves in memory harms no other. */
async function measured({ jobs }) {
  const page = await context.newPage();
  page.setDefaultTimeout(0);
  const crash = new Promise((_, reject) => {
    page.once("crash", () => reject(new Error("the page crashed")));
  });
  try {
    await page.goto(new URL("runner.html", server.url).href);
    const work = page.evaluate(
      async (list) => (await import("./runner.js")).measureAll(list),
      jobs,
    );
    return { results: await Promise.race([work, crash]) };
  } finally {
    await page.close();
  }
}

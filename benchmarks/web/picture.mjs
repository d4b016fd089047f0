// Takes a picture of the page with files measured in it, and prints what it says.
//
//     node picture.mjs CHROMIUM PROFILE PICTURE FILE [FILE]

import { launch } from "./launch.mjs";
import { serve } from "./server.mjs";

const [executablePath, profile, picture, ...files] = process.argv.slice(2);

const server = await serve(0);
const context = await launch(executablePath, profile, {
  viewport: { width: 900, height: 700 },
  deviceScaleFactor: 2,
  colorScheme: "light",
});
try {
  const page = await context.newPage();
  await page.goto(server.url);
  await page.setInputFiles("#files", files);
  await page.locator("#results:not([hidden])").waitFor({ timeout: 300_000 });
  await page.screenshot({ path: picture, fullPage: true });
  console.log(await page.locator("#verdict").textContent());
} finally {
  await context.close();
  server.close();
}

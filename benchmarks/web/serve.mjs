// Serves the page for people:  node serve.mjs [PORT]

import { serve } from "./server.mjs";

const { url } = await serve(Number(process.argv[2] ?? 8642));
console.log(`Open ${url} in a browser. Ctrl-C ends it.`);

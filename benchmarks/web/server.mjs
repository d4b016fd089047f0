// Serves this folder from localhost, with the two headers that give a page exact
// clocks: without COOP and COEP, performance.now() counts in steps of 0.1 ms.

import { createServer } from "node:http";
import { createReadStream } from "node:fs";
import { stat, writeFile } from "node:fs/promises";
import { dirname, extname, join, normalize, sep } from "node:path";
import { fileURLToPath } from "node:url";

const HERE = dirname(fileURLToPath(import.meta.url));

const TYPES = {
  ".css": "text/css; charset=utf-8",
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".json": "application/json",
  ".wasm": "application/wasm",
};

const HEADERS = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
  "Cache-Control": "no-cache",
};

/**
 * Starts the server.
 *
 * @param {number} port 0 takes any free one.
 * @param {string | null} exchange a folder that is readable and writable as /exchange/.
 * @returns {Promise<{url: string, close: () => void}>}
 */
export async function serve(port, exchange = null) {
  const server = createServer((request, response) => {
    answer(request, response, exchange).catch((error) => {
      if (!response.headersSent) response.writeHead(500, HEADERS);
      response.end(String(error));
    });
  });
  await new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, "127.0.0.1", resolve);
  });
  return {
    url: `http://127.0.0.1:${server.address().port}/`,
    close: () => server.close(),
  };
}

async function answer(request, response, exchange) {
  const path = decodeURIComponent(new URL(request.url, "http://localhost").pathname);
  const file = located(path, exchange);
  if (file === null) return refuse(response, 404);
  if (request.method === "PUT" && path.startsWith("/exchange/")) {
    const parts = [];
    for await (const part of request) parts.push(part);
    await writeFile(file, Buffer.concat(parts));
    return refuse(response, 204);
  }
  if (request.method !== "GET") return refuse(response, 405);
  const found = await stat(file).catch(() => null);
  if (!found?.isFile()) return refuse(response, 404);
  response.writeHead(200, {
    ...HEADERS,
    "Content-Length": found.size,
    "Content-Type": TYPES[extname(file)] ?? "application/octet-stream",
  });
  createReadStream(file).pipe(response);
}

function refuse(response, status) {
  response.writeHead(status, HEADERS);
  response.end();
}

/** The file behind a path of the address, or null if it lies outside. */
function located(path, exchange) {
  const [root, rest] = path.startsWith("/exchange/")
    ? [exchange, path.slice("/exchange/".length)]
    : [HERE, path === "/" ? "index.html" : path.slice(1)];
  if (root === null) return null;
  const file = normalize(join(root, rest));
  return file.startsWith(root + sep) ? file : null;
}

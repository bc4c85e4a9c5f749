/** The files of the page, which is built into `dist/admin`; and a plain text that lists the API where it is not built. */
import * as Effect from "effect/Effect"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Fs from "node:fs/promises"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import { api } from "../api.ts"

/** No page of this server loads anything from elsewhere, runs what is written into it, or is shown in a frame. */
export const security: Readonly<Record<string, string>> = {
  "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; " +
    "img-src 'self' data:; font-src 'self'; manifest-src 'self'; form-action 'none'; base-uri 'none'; " +
    "frame-ancestors 'none'",
  "x-content-type-options": "nosniff",
  "x-frame-options": "DENY",
  "referrer-policy": "no-referrer",
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
  "cache-control": "no-store"
}

const types: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".json": "application/json",
  ".map": "application/json",
  ".svg": "image/svg+xml",
  ".png": "image/png",
  ".ico": "image/x-icon",
  ".woff2": "font/woff2",
  ".webmanifest": "application/manifest+json",
  ".txt": "text/plain; charset=utf-8"
}

/** The root of the package: above `src` in a clone, above `dist` where it is installed, as deep as this file may be. */
const packageRoot = async (): Promise<string | undefined> => {
  for (let at = Path.dirname(fileURLToPath(import.meta.url)); at !== Path.dirname(at); at = Path.dirname(at)) {
    const found = await Fs.stat(Path.join(at, "package.json")).then((stat) => stat.isFile(), () => false)
    if (found) return at
  }
}

interface File {
  readonly body: Uint8Array
  readonly type: string
}

// a page has a handful of files
const mostFiles = 200

/** All files of a folder, by their path in a URL. Only what was there at the start is ever served. */
const filesIn = async (folder: string): Promise<ReadonlyMap<string, File>> => {
  const files = new Map<string, File>()
  const entries = await Fs.readdir(folder, { withFileTypes: true, recursive: true }).catch(() => [])
  for (const entry of entries) {
    const type = types[Path.extname(entry.name)]
    if (!entry.isFile() || type === undefined || files.size === mostFiles) continue
    const file = Path.join(entry.parentPath, entry.name)
    const path = `/${Path.relative(folder, file).split(Path.sep).join("/")}`
    files.set(path, { body: await Fs.readFile(file), type })
  }
  const index = files.get("/index.html")
  if (index !== undefined) files.set("/", index)
  return files
}

const endpoints: string = [
  ...Object.values(api.groups).flatMap((group) =>
    Object.values(group.endpoints).map(({ method, path }) => `${method.padEnd(6)} ${path}`)
  ),
  "GET    /metrics",
  "GET    /openapi.json"
].join("\n")

/** What answers a path that no endpoint has. */
export const pages: Effect.Effect<(path: string) => HttpServerResponse.HttpServerResponse> = Effect.map(
  Effect.promise(async () => {
    const root = await packageRoot()
    return root === undefined ? new Map<string, File>() : filesIn(Path.join(root, "dist/admin"))
  }),
  (files) => (path) => {
    const file = files.get(path)
    if (file !== undefined) {
      return HttpServerResponse.uint8Array(file.body, { contentType: file.type })
    }
    const why = files.size === 0 ? "The page is not built: `npm run build` builds it." : "There is no such page."
    return HttpServerResponse.text(`${why}\n\nThe API of this server:\n\n${endpoints}\n`, { status: 404 })
  }
)

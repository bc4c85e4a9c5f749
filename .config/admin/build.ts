/** Builds the page of the admin API out of `src/admin` into `dist/admin`: what `npm ci`, `npm run build` and its test run. */
import * as Fs from "node:fs/promises"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("../..", import.meta.url))
const from = Path.join(root, "src/admin")
const to = Path.join(root, "dist/admin")

// an install without development dependencies has none
const esbuild = await import("esbuild").catch(() => undefined)

if (esbuild === undefined) {
  console.error("the page of the admin API is not built: esbuild is not installed")
} else {
  await Fs.rm(to, { recursive: true, force: true })
  await Fs.mkdir(to, { recursive: true })
  await esbuild.build({
    absWorkingDir: root,
    entryPoints: { page: Path.join(from, "main.tsx") },
    outdir: to,
    bundle: true,
    minify: true,
    format: "esm",
    target: ["chrome120", "firefox121", "safari17"],
    jsx: "automatic",
    jsxImportSource: "preact",
    legalComments: "inline",
    logLevel: "warning"
  })
  await esbuild.build({
    absWorkingDir: root,
    entryPoints: { page: Path.join(from, "page.css") },
    outdir: to,
    bundle: true,
    minify: true,
    logLevel: "warning"
  })
  for (const name of ["index.html", "icon.svg"]) await Fs.copyFile(Path.join(from, name), Path.join(to, name))
}

/** Builds the page of the admin API out of `src/admin` into `dist/admin`: what `npm ci`, `npm run build` and its test run. */
import * as Fs from "node:fs/promises"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("../..", import.meta.url))
const from = Path.join(root, "src/admin")
const to = Path.join(root, "dist/admin")

/** The licences of what is in the page ask to be passed on with it. */
const licenceOf = async (folder: string): Promise<string> => {
  const { license, name, version } = JSON.parse(await Fs.readFile(Path.join(folder, "package.json"), "utf8")) as {
    readonly license: string
    readonly name: string
    readonly version: string
  }
  const file = (await Fs.readdir(folder)).find((name) => /^licen[cs]e/i.test(name))
  const text = file === undefined ? "" : `\n\n${(await Fs.readFile(Path.join(folder, file), "utf8")).trim()}`
  return `${name} ${version} (${license})${text}\n`
}

// an install without development dependencies has none
const esbuild = await import("esbuild").catch(() => undefined)

if (esbuild === undefined) {
  console.error("the page of the admin API is not built: esbuild is not installed")
} else {
  await Fs.rm(to, { recursive: true, force: true })
  await Fs.mkdir(to, { recursive: true })
  const { metafile } = await esbuild.build({
    absWorkingDir: root,
    entryPoints: { page: Path.join(from, "main.tsx") },
    metafile: true,
    outdir: to,
    bundle: true,
    minify: true,
    format: "esm",
    target: ["chrome123", "firefox121", "safari17.5"],
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
  const packages = new Set(
    Object.keys(metafile.inputs).flatMap((path) => /^.*\/?node_modules\/(?:@[^/]+\/)?[^/]+(?=\/)/.exec(path)?.[0] ?? [])
  )
  const licences = await Promise.all([...packages].toSorted().map((folder) => licenceOf(Path.resolve(root, folder))))
  await Fs.writeFile(Path.join(to, "LICENSES.txt"), licences.join(`\n${"-".repeat(80)}\n\n`))
}

/**
 * Makes the command of the package out of `src`, with all that it imports, in place of what the compiler wrote for it: one file
 * is there four times as fast as hundreds. What it loads later (the admin API) is a file of its own.
 */
import * as Fs from "node:fs"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import { rolldown } from "rolldown"
import { input, output } from "./oneFile.ts"

const root = fileURLToPath(new URL("..", import.meta.url))
// the bench makes one elsewhere
const dir = process.argv[2] ?? Path.join(root, "dist/cli")

/** The folder of the package that a module is in. */
const packageOf = (id: string): string | undefined => /^.*\/node_modules\/(?:@[^/]+\/)?[^/]+(?=\/)/.exec(id)?.[0]

/** The licences of what is in the bundle ask to be passed on with it. */
const licenceOf = (folder: string): string => {
  const { license, name, version } = JSON.parse(Fs.readFileSync(Path.join(folder, "package.json"), "utf8")) as {
    readonly license: string
    readonly name: string
    readonly version: string
  }
  const file = Fs.readdirSync(folder).find((name) => /^licen[cs]e/i.test(name))
  const text = file === undefined ? "" : `\n\n${Fs.readFileSync(Path.join(folder, file), "utf8").trim()}`
  return `${name} ${version} (${license})${text}\n`
}

const build = await rolldown({ ...input, input: Path.join(root, "src/cli/main.ts") })
Fs.rmSync(dir, { recursive: true, force: true })
const written = await build.write({ ...output, dir, entryFileNames: "[name].js", chunkFileNames: "[name].js" })
await build.close()

const modules = written.output.flatMap((file) => file.type === "chunk" ? file.moduleIds : [])
const packages = new Set(modules.map(packageOf).filter((folder) => folder !== undefined))
const licences = [...packages].toSorted().map(licenceOf)
Fs.writeFileSync(Path.join(dir, "LICENSES.txt"), licences.join(`\n${"-".repeat(80)}\n\n`))

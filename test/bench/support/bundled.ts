/**
 * Programs of Node as they are shipped: one file of JavaScript. A process whose types Node strips holds 18 MB more, and its collections
 * of garbage are other ones.
 */
import { copyFileSync, mkdirSync, writeFileSync } from "node:fs"
import { basename, join } from "node:path"
import { fileURLToPath, pathToFileURL } from "node:url"
import { bundle } from "../../cli/support/bundle.ts"
import { finished, temporary } from "./processes.ts"

const root = fileURLToPath(new URL("../../..", import.meta.url))
const attend = fileURLToPath(new URL("./attend.ts", import.meta.url))

const made = new Map<string, Promise<string>>()

const once = (name: string, make: () => Promise<string>): Promise<string> => {
  const known = made.get(name) ?? make()
  made.set(name, known)
  return known
}

// that of the same checkout: it and the program share what they answer
const attendantOf = (script: string): string => fileURLToPath(new URL("../support/attend.ts", pathToFileURL(script)))

/** A program of the bench, with its attendant first, made at its first start. */
const bundled = (script: string): Promise<string> =>
  once(script, async () => {
    const folder = join(temporary(), `bundle${made.size}`)
    mkdirSync(folder)
    const input = join(folder, "entry.js")
    writeFileSync(input, [attendantOf(script), script].map((file) => `import ${JSON.stringify(file)}\n`).join(""))
    const file = join(folder, `${basename(script, ".ts")}.mjs`)
    await bundle(input, file)
    return file
  })

/** What to start of it: a profile names the functions of the source. */
export const source = (script: string, profile: string | undefined): Promise<string> =>
  profile === undefined ? bundled(script) : Promise.resolve(script)

/** The command as the package has it, without the time that the rest of a build takes. */
export const packed = (): Promise<string> =>
  once("holdfast", async () => {
    const folder = join(temporary(), "package")
    const cli = join(folder, "dist/cli")
    mkdirSync(cli, { recursive: true })
    copyFileSync(join(root, "package.json"), join(folder, "package.json"))
    const done = await finished(process.execPath, [join(root, ".config/bundle.ts"), cli])
    if ("why" in done) throw new Error(`the command could not be bundled: ${done.why}`)
    return join(cli, "main.js")
  })

/** The same with our attendant. */
export const attended = (): Promise<string> =>
  once("attended", async () => {
    const files = [await bundled(attend), await packed()]
    const file = join(temporary(), "holdfast.mjs")
    writeFileSync(file, files.map((path) => `import ${JSON.stringify(path)}\n`).join(""))
    return file
  })

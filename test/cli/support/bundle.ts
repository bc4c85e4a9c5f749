/** Makes one file of the command before its tests run: a process of that starts in a third of the time that `src` takes. */
import * as Fs from "node:fs"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import { rolldown } from "rolldown"
import { input, output } from "../../../.config/oneFile.ts"

const root = fileURLToPath(new URL("../../..", import.meta.url))
// several checkouts may share their packages
const cache = Path.join(root, "node_modules/.cache/holdfast-cli", Path.basename(root))

/** The bundled command, as far below a `package.json` as the one in `dist`. */
export const bundled = Path.join(cache, "dist/cli/main.js")

/** Another run of the tests may start the file in this moment: it is there, whole, at any time. */
const replace = (file: string, text: string): void => {
  Fs.mkdirSync(Path.dirname(file), { recursive: true })
  Fs.writeFileSync(`${file}.${process.pid}`, text)
  Fs.renameSync(`${file}.${process.pid}`, file)
}

/** Makes one file of a program, which runs without `src` and without `node_modules`. */
export const bundle = async (program: string, file: string): Promise<void> => {
  const build = await rolldown({
    ...input,
    input: program,
    // the package says that none of its modules is imported for what it does
    treeshake: { moduleSideEffects: [{ test: /\/test\//, sideEffects: true }] }
  })
  const { output: [main] } = await build.generate({ ...output, codeSplitting: false })
  await build.close()
  replace(file, main.code)
}

/**
 * The file of a program of the tests, made as a user would make it. Where it matters what a process holds: Node keeps 18 MB of heap
 * for a program whose types it strips, and what survives that is a hint to V8 to keep what is made later for long (pauses of 20 ms).
 */
export const bundledProgram = async (program: string): Promise<string> => {
  const file = Path.join(cache, `${Path.basename(program, ".ts")}.js`)
  await bundle(program, file)
  return file
}

/** Puts the command into a directory, as far below a `package.json` as the one in `dist`. */
export const bundleCommand = async (directory: string): Promise<string> => {
  const file = Path.join(directory, "dist/cli/main.js")
  replace(Path.join(directory, "package.json"), Fs.readFileSync(Path.join(root, "package.json"), "utf8"))
  await bundle(Path.join(root, "src/cli/main.ts"), file)
  return file
}

export default async function setup(): Promise<void> {
  await bundleCommand(cache)
}

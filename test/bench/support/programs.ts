/** Servers that are no programs of Node: found or built once, in a folder that is gone afterwards. */
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { bunPackage } from "../../runtimes/packages.ts"
import { finished, temporary } from "./processes.ts"

/** The file to start, or one line that says why there is none and what to do. */
export type Found = { readonly path: string } | { readonly why: string }

export interface Program {
  readonly find: () => Promise<Found>
  readonly args?: ReadonlyArray<string>
}

const once = (find: () => Promise<Found>): () => Promise<Found> => {
  let found: Promise<Found> | undefined
  return () => found ??= find()
}

const here = (path: string): string => fileURLToPath(new URL(`../${path}`, import.meta.url))

const built = async (
  compiler: string,
  args: (path: string) => ReadonlyArray<string>,
  options: { readonly name: string; readonly cwd: string; readonly absent: string }
): Promise<Found> => {
  const path = join(temporary(), options.name)
  const done = await finished(compiler, args(path), { cwd: options.cwd })
  if ("output" in done) return { path }
  return { why: done.why.includes("ENOENT") ? options.absent : `${compiler} failed: ${done.why}` }
}

export const go: Program = {
  find: once(() =>
    built("go", (path) => ["build", "-o", path, "."], {
      name: "go",
      cwd: here("go"),
      absent: "there is no Go toolchain here (apt-get install golang-go)"
    })
  )
}

export const c: Program = {
  find: once(() =>
    built("cc", (path) => ["-O2", "-o", path, "echo.c"], {
      name: "c",
      cwd: here("c"),
      absent: "there is no C compiler here (apt-get install gcc)"
    })
  )
}

export const bun: Program = {
  args: [here("servers/bun.ts")],
  find: once(async () => {
    const own = await finished("bun", ["--version"], { timeout: 5000 })
    if ("output" in own) return { path: "bun" }
    const { binary, name, version } = bunPackage
    const folder = join(temporary(), "bun")
    const done = await finished(
      "npm",
      [
        "install",
        "--prefix",
        folder,
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--prefer-offline",
        "--fetch-retries=1",
        `${name}@${version}`
      ],
      { timeout: 60_000 }
    )
    return "output" in done
      ? { path: join(folder, "node_modules", name, binary) }
      : { why: `there is no Bun here (npm install --global bun), and npm could not get it: ${done.why}` }
  })
}

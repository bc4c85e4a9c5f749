/** Runtimes as npm has them: the package with the binary for this machine. */
const { arch, platform } = process

export interface Binary {
  readonly name: string
  readonly version: string
  /** Where it is in the package. */
  readonly binary: string
}

export const bunPackage: Binary = {
  name: `@oven/bun-${platform}-${arch === "arm64" ? "aarch64" : arch}`,
  version: "1.4.5",
  binary: "bin/bun"
}

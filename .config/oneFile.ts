/** How a program of Node becomes one file that starts soon: what the build and the tests tell the bundler. */
import type { InputOptions, OutputOptions, Plugin } from "rolldown"

// those behind a getter (`WebSocket` and what belongs to it) are loaded when they are read, which takes 20 ms
const described = Object.getOwnPropertyDescriptors(process.getBuiltinModule("node:http"))
const names = Object.entries<PropertyDescriptor>(described).flatMap(([name, { get }]) =>
  get === undefined ? [name] : []
)

/** An import of `node:http` reads all that it exports, also what is behind a getter: this one does not. */
const http: Plugin = {
  name: "node-http",
  resolveId: { filter: { id: /^node:http$/ }, handler: () => ({ id: "\0node-http", moduleSideEffects: false }) },
  load: {
    filter: { id: /^\0node-http$/ },
    handler: () =>
      `const http = process.getBuiltinModule("node:http")\nexport default http\nexport const { ${
        names.join(", ")
      } } = http`
  }
}

export const input = {
  platform: "node",
  logLevel: "warn",
  resolve: { conditionNames: ["holdfast-source", "node", "import"] },
  plugins: [http]
} as const satisfies InputOptions

// half as much to read; names stay, for the stack of a defect
export const output = {
  format: "esm",
  minify: { mangle: false, compress: false, codegen: { removeWhitespace: true } }
} as const satisfies OutputOptions

/**
 * Builds the API reference out of the docstrings, into `docs`. It fails where an exported name has no docstring, or a link leads
 * nowhere.
 */
import * as Fs from "node:fs"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import { Application, TSConfigReader } from "typedoc"
import ts from "typescript"

const root = fileURLToPath(new URL("../..", import.meta.url))
const { exports, version } = JSON.parse(Fs.readFileSync(Path.join(root, "package.json"), "utf8"))

const hidden = new Set(Object.entries(exports).filter(([, file]) => file === null).map(([entry]) => entry.slice(2)))

/** The modules of an entry that can be imported, but for its barrel. */
const modulesOf = (folder) =>
  Fs.readdirSync(Path.join(root, "src", folder)).filter((name) => /^[^.]+\.ts$/.test(name) && name !== "index.ts")
    .filter((name) => !hidden.has(Path.join(folder, name.slice(0, -3))))
    .map((name) => Path.join(root, "src", folder, name))

const folders = Object.entries(exports).flatMap(([entry, target]) =>
  target !== null && /^\.(?:\/\w+)?$/.test(entry) ? [entry.slice(2)] : []
)
const entryPoints = folders.flatMap(modulesOf)
const out = Path.join(root, "docs")

// the first comment of a file says what its module is, which TypeDoc wants to be told by a tag
const read = ts.sys.readFile
ts.sys.readFile = (path, encoding) => {
  const text = read(path, encoding)
  return entryPoints.includes(path) ? text?.replace("/**", "/** @module") : text
}

const step = (text) => console.log(`docs: ${text}`)
const began = performance.now()

step(`reading ${entryPoints.length} modules`)
const app = await Application.bootstrap({
  name: `Holdfast ${version}`,
  entryPoints,
  tsconfig: Path.join(root, ".config/docs/tsconfig.json"),
  readme: Path.join(root, "README.md"),
  out,
  disableSources: true,
  disableGit: true,
  excludeInternal: true,
  excludePrivate: true,
  // what classes inherit from Effect is documented there
  excludeExternals: true,
  categorizeByGroup: false,
  navigation: { includeCategories: true },
  requiredToBeDocumented: ["Module", "Namespace", "Enum", "Variable", "Function", "Class", "Interface", "TypeAlias"],
  validation: { notExported: false, invalidLink: true, notDocumented: true, rewrittenLink: true, unusedMergeModuleWith: true },
  treatWarningsAsErrors: true,
  highlightLanguages: ["typescript", "json", "sh", "mermaid", "nginx", "yaml", "ini", "html", "dockerfile"],
  logLevel: "Warn"
}, [new TSConfigReader()])

const project = await app.convert()
if (project === undefined) process.exit(1)
step("looking for names without a docstring, and for links that lead nowhere")
app.validate(project)
step("writing pages")
await app.generateDocs(project, out)
if (app.logger.hasErrors() || app.logger.hasWarnings()) {
  console.error("docs: failed, see above")
  process.exit(1)
}
step(`${Path.relative(process.cwd(), Path.join(out, "index.html"))}, after ${Math.round((performance.now() - began) / 1000)} s`)

/** Runs an example: `npm run example -- chat`. Without a name it lists them. */
import { isName, names, titles } from "./support/list.ts"

const name = process.argv[2]

if (name === undefined) {
  const width = Math.max(...names.map(({ length }) => length))
  console.log("Run one with: npm run example -- NAME. Ctrl-C ends it.\n")
  for (const name of names) console.log(`  ${name.padEnd(width)}  ${titles[name]}`)
  console.log("\nEach has a page: test/examples/NAME/README.md")
} else if (isName(name)) {
  await import(`./${name}/main.ts`)
} else {
  console.error(`There is no example ${JSON.stringify(name)}. There are: ${names.join(", ")}.`)
  process.exitCode = 1
}

/** What the docs say of a limit, out of its definition: its docstring, its row in the guide, the help of its flag. */
import { type Definition, isOff, written, zeroOf } from "./definition.ts"

type Definitions = Readonly<Record<string, Definition>>

const sentence = (text: string): string => text === "" ? "" : ` ${capital(text)}.`

/** Another limit that this one must not contradict, and whether its default follows. */
interface Bound {
  readonly limit: string
  readonly text: string
  readonly follows: boolean
}

const boundOf = ({ atLeast, name }: Definition, all: Definitions): Bound | undefined => {
  for (const { follows, limit, times } of [atLeast ?? []].flat()) {
    if (follows === "other") continue
    return { limit, text: times === 2 ? "at least twice" : "at least", follows: follows !== "neither" }
  }
  for (const { atLeast: others, name: limit } of Object.values(all)) {
    const other = [others ?? []].flat().find((it) => it.limit === name)
    if (other === undefined || other.follows === "this") continue
    return { limit, text: other.times === 2 ? "at most half of" : "at most", follows: other.follows !== "neither" }
  }
  return undefined
}

/** Which other limits this one must not contradict, as a sentence; without those that its default follows. */
const relationOf = (definition: Definition, all: Definitions): string => {
  if (definition.apartFrom !== undefined) return `Has no entry in common with \`${definition.apartFrom}\``
  const bound = boundOf(definition, all)
  return bound === undefined || bound.follows ? "" : `${bound.text} \`${bound.limit}\``
}

/** What a default follows: `, at least twice ...`. */
const following = (definition: Definition, all: Definitions, nameOf: (limit: string) => string): string => {
  const bound = boundOf(definition, all)
  return bound?.follows === true ? `${bound.text} ${nameOf(bound.limit)}` : ""
}

const quoted = (name: string): string => `\`${name}\``
const capital = (text: string): string => text[0]!.toUpperCase() + text.slice(1)
const afterComma = (text: string): string => text === "" ? "" : `, ${text}`

const whatOf = ({ says, why }: Definition): string => capital(`${says}.${sentence(why ?? "")}`)

/** A duration with a space before its unit: `25 s`. */
const spaced = (text: string): string => text.replace(/(\d)(?=[a-z])/g, "$1 ")

/** The default of a limit as a person writes it. */
const defaultOf = (definition: Definition): string => written(definition, definition.default)

/** The first paragraph of a docstring. */
export const docOf = (definition: Definition, all: Definitions): string => {
  const value = definition.kind === "choice" ? quoted(defaultOf(definition)) : spaced(defaultOf(definition))
  const follows = afterComma(following(definition, all, quoted))
  const [byDefault, zero] = isOff(definition, definition.default)
    ? [`Default ${definition.zero} (0)`, ""]
    : [`Default ${value}${follows}`, zeroOf(definition)]
  return `${whatOf(definition)}${sentence(byDefault)}${sentence(zero)}${sentence(relationOf(definition, all))}`
}

/** The name of a limit's flag: its own in kebab case, unless another is given. */
export const flagOf = ({ flag, name }: Definition): string =>
  flag ?? name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)

/** What a flag is for, with its default. */
export const helpOf = (definition: Definition, all: Definitions): string => {
  const zero = zeroOf(definition)
  const follows = following(definition, all, (name) => `--${flagOf(all[name]!)}`)
  return `${definition.says}${zero === "" ? "" : `; ${zero}`} (default ${defaultOf(definition)}${afterComma(follows)})`
}

/** What the guide says of a limit, apart from its name and its default. */
export const whatFor = (definition: Definition, all: Definitions): string => {
  const follows = following(definition, all, quoted)
  const flag = definition.on === undefined ? "" : ` \`--${flagOf(definition)}\``
  return `${whatOf(definition)}${sentence(follows === "" ? "" : `Default ${follows}`)}` +
    `${sentence(zeroOf(definition))}${sentence(relationOf(definition, all))}${flag}`
}

/** What `npm run bench` was asked for. */
import { resolve } from "node:path"
import { parseArgs } from "node:util"
import { growth } from "./growth.ts"
import { loads } from "./loads.ts"
import type { Load } from "./rounds.ts"
import type { ServerKind } from "./servers.ts"
import { absent, beside, servers } from "./servers.ts"
import { enoughRounds } from "./support/figures.ts"

export const help = `Usage: npm run bench -- [options]

Without options: the table of the README, in eight minutes or so.

  --readme         write the table into README.md and src/guides/performance.md; with --growth, the drawing
  --only PATTERN   the loads whose name matches this regular expression
  --servers A,B    these servers only
  --all            every load, beside every server
  --beside DIR     also Holdfast as it is in another checkout (git worktree add DIR COMMIT; npm ci in it), as "beside"
  --rounds N       counted turns of each server under each load (default 7; ratios need ${enoughRounds})
  --seconds S      length of a turn (default 0.4)
  --growth         50 to 19,000 connections, and a million in memory, instead of the usual loads
  --plot FILE      draw the growth as SVG (with --growth)
  --json FILE      write the figures of every round
  --profile DIR    write a CPU profile of every Node server to this directory, and sum it up
  --help           this text

Loads (* in the table of the README):
${
  [...loads, ...growth].map(({ about, compared, name }) =>
    `  ${(compared === undefined ? name : `${name} *`).padEnd(16)}  ${about}`
  ).join("\n")
}

Servers:
${servers.map(({ about, name }) => `  ${name.padEnd(16)}  ${about}`).join("\n")}

${absent}.
`

/** A mistake of the person who started it: one line says what to do. */
export class Usage extends Error {}

const number = (flag: string, text: string, minimum: number): number => {
  const value = Number(text)
  if (text.trim() === "" || !(value >= minimum && Number.isFinite(value))) {
    throw new Usage(`--${flag} takes a number, at least ${minimum}, not "${text}"`)
  }
  return value
}

const pattern = (text: string): RegExp => {
  try {
    return new RegExp(text)
  } catch {
    throw new Usage(`--only takes a regular expression, such as "^50x", not "${text}"`)
  }
}

const parsed = (args: ReadonlyArray<string>) => {
  try {
    return parseArgs({
      args: [...args],
      options: {
        readme: { type: "boolean", default: false },
        only: { type: "string" },
        servers: { type: "string" },
        all: { type: "boolean", default: false },
        beside: { type: "string" },
        rounds: { type: "string", default: "7" },
        seconds: { type: "string", default: "0.4" },
        growth: { type: "boolean", default: false },
        plot: { type: "string" },
        json: { type: "string" },
        profile: { type: "string" },
        help: { type: "boolean", default: false }
      }
    }).values
  } catch (error) {
    throw new Usage(`${(error as Error).message.split(". ")[0]}: see --help`)
  }
}

/** One load, and the servers that take turns under it. */
export interface Wanted {
  readonly load: Load
  readonly servers: ReadonlyArray<ServerKind>
}

export interface Options {
  readonly help: boolean
  readonly readme: boolean
  readonly growth: boolean
  readonly rounds: number
  readonly seconds: number
  readonly plot: string | undefined
  readonly json: string | undefined
  readonly profile: string | undefined
  readonly wanted: ReadonlyArray<Wanted>
}

export const options = (args: ReadonlyArray<string>): Options => {
  const { all, beside: checkout, only, servers: named, ...values } = parsed(args)
  const rounds = Math.trunc(number("rounds", values.rounds, 1))
  const seconds = number("seconds", values.seconds, 0.1)
  if (values.plot !== undefined && !values.growth) throw new Usage("--plot draws what --growth measures: add --growth")
  if (values.readme && (only !== undefined || named !== undefined)) {
    throw new Usage("--readme writes the whole table: leave --only and --servers out")
  }
  if (values.readme && rounds < enoughRounds) {
    throw new Usage(`--readme writes ratios, which need ${enoughRounds} rounds: leave --rounds out`)
  }
  const known = checkout === undefined ? servers : [...servers, beside(resolve(checkout))]
  const names = named?.split(",").map((name) => name.trim()).filter((name) => name !== "")
  for (const name of names ?? []) {
    if (!known.some((server) => server.name === name)) {
      throw new Usage(`--servers: there is no ${name}, but ${known.map((server) => server.name).join(", ")}`)
    }
  }
  const chosen = (load: Load): ReadonlyArray<ServerKind> => {
    const candidates = names !== undefined || all ? load.servers : load.compared ?? load.servers
    return known.filter(({ name }) =>
      candidates.includes(name) && (names === undefined || names.includes(name) || name === "beside")
    )
  }
  const matching = only === undefined ? undefined : pattern(only)
  const wanted = (values.growth ? growth : loads)
    .filter(({ compared, name }) =>
      matching === undefined ? all || values.growth || compared !== undefined : matching.test(name)
    )
    .map((load) => ({ load, servers: chosen(load) }))
    .filter(({ load, servers }) => servers.length > 0 || load.servers.length === 0)
  if (wanted.length === 0) throw new Usage("no load has such a name and such servers: --help has their names")
  return {
    help: values.help,
    readme: values.readme,
    growth: values.growth,
    rounds,
    seconds,
    plot: values.plot,
    json: values.json,
    profile: values.profile,
    wanted
  }
}

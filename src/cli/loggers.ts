/** How `serve` writes its log: for people, and for machines. */
import * as Cause from "effect/Cause"
import * as Formatter from "effect/Formatter"
import * as Logger from "effect/Logger"
import * as References from "effect/References"
import { plain, plainly } from "../internal/reasons/logs.ts"
import { plainJson } from "../internal/reasons/text.ts"
import { progress } from "./progress.ts"

/** One flat object a line. */
export const jsonLogger = Logger.map(
  Logger.formatStructured,
  ({ annotations, cause, level, message, timestamp }) => plainJson({ timestamp, level, message, ...annotations, cause })
)

// date and time of here, as people write them
const timeOf = (date: Date): string =>
  new Date(date.getTime() - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 23).replace("T", " ")

const colors: Partial<Record<string, number>> = { WARN: 33, ERROR: 31, FATAL: 31 }

const shown = (value: unknown): string => typeof value === "string" ? value : Formatter.format(value)

/** A line: when, how bad, what, and the facts that were annotated. What a peer says, and an address that it chose, commands nothing. */
export const lineLogger = (hasColors: boolean): Logger.Logger<unknown, string> =>
  Logger.make(({ cause, date, fiber, logLevel, message }) => {
    const name = logLevel.toUpperCase()
    const color = hasColors ? colors[name] : undefined
    const level = color === undefined ? name : `\x1b[${color}m${name}\x1b[0m`
    const facts = Object.entries(plain(fiber.getRef(References.CurrentLogAnnotations)))
    const parts = [plain(message)].flat().map(shown)
    const line = [timeOf(date), level, ...parts, ...facts.map(([key, value]) => `${key}=${shown(value)}`)].join(" ")
    return cause.reasons.length === 0 ? line : `${line}\n${Cause.pretty(plainly(cause))}`
  })

export const prettyLogger = (): Logger.Logger<unknown, void> => {
  const logger = Logger.withConsoleError(lineLogger(process.stderr.isTTY && process.env["NO_COLOR"] === undefined))
  return Logger.make((entry) => progress.above(() => logger.log(entry)))
}

/** How `serve` writes its log: for people, and for machines. */
import * as Logger from "effect/Logger"
import { plain, plainly } from "../internal/reasons/logs.ts"
import { plainJson } from "../internal/reasons/text.ts"

/** One flat object a line. */
export const jsonLogger = Logger.map(
  Logger.formatStructured,
  ({ annotations, cause, level, message, timestamp }) => plainJson({ timestamp, level, message, ...annotations, cause })
)

/** What a peer says, and an address that it chose, is text, and commands nothing. */
export const prettyLogger = (): Logger.Logger<unknown, void> => {
  const pretty = Logger.consolePretty()
  return Logger.make(({ cause, message, ...rest }) =>
    pretty.log({ ...rest, message: plain(message), cause: plainly(cause) })
  )
}

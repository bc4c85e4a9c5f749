/** Whether reads and writes may take the short cuts past their fibers. */
import * as Context from "effect/Context"

interface Host {
  readonly process?: { readonly env: Readonly<Record<string, string | undefined>> } | undefined
}

// where there is an environment: `HOLDFAST_SHORT_CUTS=off` sends every byte through the reader's pull, and every message
// through the writer's take
const { process: host } = globalThis as Host

/** On by default; off, everything is done by the fibers alone: slower, and what tests compare with. */
export const ShortCuts = Context.Reference<boolean>("holdfast/ShortCuts", {
  defaultValue: () => host?.env["HOLDFAST_SHORT_CUTS"] !== "off"
})

/**
 * Whether connections take the short cuts past a reader and a writer that stand by: a transport brings a read in the event
 * that it came with, and takes a write in the turn that sent it, and no fiber is woken for either. The short cuts are in the
 * files of the two fibers, and call what the fibers call.
 *
 * What they gain: without them a message of 64 bytes costs a server 1.7 times the CPU at 50 connections, 1.6 with 32 in flight,
 * 1.8 at 1,000 connections (`npm run bench -- --servers raw,holdfast,holdfast-fibers --only 'x1$|x32$' --rounds 7`).
 */
import * as Context from "effect/Context"

interface Environment {
  readonly process?: { readonly env: Readonly<Record<string, string | undefined>> } | undefined
}

// where there is an environment: `HOLDFAST_SHORT_CUTS=off` sends every byte through the reader's pull, and every message
// through the writer's take
const { process: host } = globalThis as Environment

/** On by default; off, everything is done by the fibers alone: slower, and what tests compare with. */
export const ShortCuts = Context.Reference<boolean>("holdfast/ShortCuts", {
  defaultValue: () => host?.env["HOLDFAST_SHORT_CUTS"] !== "off"
})

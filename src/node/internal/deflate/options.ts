/** The option `deflate` of whatever listens or dials, checked. */
import * as Result from "effect/Result"

/**
 * How the messages of a WebSocket are compressed: permessage-deflate (RFC 7692), where the peer takes part in it.
 *
 * **Details**
 *
 * - Control frames are never compressed, nor is a message that would get no shorter.
 * - `Policy.maxFrame` bounds what a message inflates to, and is checked while it inflates: what passes it ends the connection with
 *   `FrameTooLong` (1009), or is skipped where the codec skips (not where contexts are kept). `size` is then one byte more than
 *   the limit: the rest was not inflated. `inboxBytes` counts what a message inflated to. What is not deflate's ends it with
 *   `InvalidMessage` (1007).
 * - A message is compressed and inflated at once, in the thread of JavaScript: on one core of 2.5 GHz 20 us and 4 us for each KiB to
 *   compress at level 1, 15 us and 2 us for each KiB to inflate.
 *
 * **Memory of a connection**
 *
 * None beside its messages, idle or busy: compressor and window are made for a message and freed after it. With
 * `contextTakeover` up to 2^`windowBits` bytes for each direction that has carried a compressed message: 64 KiB, or 8 KiB with
 * `windowBits: 12`.
 *
 * **Gotchas**
 *
 * - Compression beside secrets tells of them: an attacker who can put text into a message next to a secret learns it from the
 *   lengths (CRIME, BREACH). Leave it off for such messages.
 * - It costs far more CPU than frames do. It pays for itself on slow or metered networks, with text.
 *
 * @category models
 * @since 0.1.0
 */
export interface Deflate {
  /**
   * Messages of fewer bytes leave as they are. 0 compresses all that gets shorter by it. Default 1024, and 64 with
   * `contextTakeover`.
   */
  readonly threshold?: number | undefined
  /**
   * Whether what was sent before may be referred to, at both ends: small messages that are alike get much shorter, at the price of
   * memory for every connection. Used where the peer agrees. A broadcast, encoded once for all, is not compressed then. Default
   * false.
   */
  readonly contextTakeover?: boolean | undefined
  /** How far back a message may refer, as a power of two, from 9 (512 bytes) to 15 (32 KiB), in both directions. Default 15. */
  readonly windowBits?: number | undefined
  /** From 1, fastest, to 9, smallest. Default 1: on JSON 5 % longer than 6, in a third of the time. */
  readonly level?: number | undefined
}

/** `Deflate` with every field. */
export interface Deflating {
  readonly threshold: number
  readonly contextTakeover: boolean
  readonly windowBits: number
  readonly level: number
}

const wrong = (name: string, value: number, least: number, most: number): string | undefined =>
  Number.isSafeInteger(value) && value >= least && value <= most
    ? undefined
    : `\`deflate.${name}\` has to be an integer from ${least} to ${most}, and is ${value}`

/** Reads the option; undefined is off. The failure is what is wrong with it. */
export const deflatingOf = (
  option: boolean | Deflate | undefined
): Result.Result<Deflating | undefined, string> => {
  if (option === undefined || option === false) return Result.succeed(undefined)
  const { contextTakeover = false, level = 1, threshold, windowBits = 15 } = option === true ? {} : option
  const checked = { threshold: threshold ?? (contextTakeover ? 64 : 1024), contextTakeover, windowBits, level }
  const problem = wrong("threshold", checked.threshold, 0, Number.MAX_SAFE_INTEGER) ??
    wrong("windowBits", windowBits, 9, 15) ?? wrong("level", level, 1, 9)
  return problem === undefined ? Result.succeed(checked) : Result.fail(problem)
}

/**
 * The files that a received chunk, a sent message, a FIN and a changed limit pass on their way through a connection over
 * TCP: eight at most, beside the ground floor (`bytes`; `scheduling`, which is
 * how anything here waits), the shares and rates of `fairness`, and what `telemetry` notes: each way asks them. Counted by the
 * engine's coverage, so that the lists are what runs and not what a reader believes.
 */
import { assert, describe, it } from "@effect/vitest"
import { execFile } from "node:child_process"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"

const most = 8

const passed = {
  "a received chunk": [
    "node/internal/stream/duplex.ts", // the transport brings it
    "internal/connection/reader.ts", // heard, decoded, heeded
    "internal/codec/decoder.ts",
    "internal/codec/room.ts", // as long as there is room
    "internal/codec/framings/sized.ts", // where a frame ends
    "internal/codec/framings/lengthPrefix.ts",
    "internal/connection/core/state.ts", // the connection as a task of the event loop's turn
    "internal/connection/core/inbox.ts" // and from there to `receive`
  ],
  "a sent message": [
    "internal/connection/handle/handle.ts", // `send`
    "internal/connection/sender.ts",
    "internal/codec/encoder.ts",
    "internal/codec/framings/lengthPrefix.ts",
    "internal/connection/core/outbox.ts", // bounds, and the queue
    "internal/connection/core/state.ts", // the write is watched
    "internal/connection/writer.ts",
    "node/internal/stream/duplex.ts"
  ],
  "a FIN": [
    "node/internal/stream/duplex.ts",
    "internal/connection/reader.ts", // the pull fails
    "ConnectionError.ts", // what the socket's error means
    "internal/codec/decoder.ts", // is anything left of a frame?
    "internal/codec/framings/sized.ts",
    "internal/connection/core/lifecycle.ts", // Draining, for `halfClose`
    "internal/connection/core/state.ts",
    "internal/connection/core/inbox.ts" // receivers get what is left, and the reason
  ],
  "a changed silence": [
    "internal/connection/handle/handle.ts", // `patch`
    "Policy.ts",
    "internal/limits/limitSet.ts", // checked, with the limits that it may contradict
    "internal/limits/definition.ts", // read, and turned into numbers
    "internal/connection/core/limits.ts",
    "internal/connection/core/state.ts",
    "internal/connection/deadlines.ts", // looked at again
    "node/internal/stream/duplex.ts" // how much of the last write is left
  ]
}

const ground = /^internal\/(?:bytes|scheduling|connection\/fairness|telemetry)\//

describe("what happens to a connection passes few files", () => {
  it("as the engine counts them", { timeout: 60_000 }, async () => {
    const script = fileURLToPath(new URL("support/paths.ts", import.meta.url))
    // the short cuts are what runs by default
    const env = { ...process.env, HOLDFAST_SHORT_CUTS: "on" }
    const { stdout } = await promisify(execFile)(process.execPath, ["--conditions=holdfast-source", script], { env })
    const counted = JSON.parse(stdout) as Record<string, ReadonlyArray<string>>
    const above = Object.fromEntries(
      Object.entries(counted).map(([name, files]) => [name, files.filter((file) => !ground.test(file)).toSorted()])
    )
    assert.deepStrictEqual(
      above,
      Object.fromEntries(Object.entries(passed).map(([name, files]) => [name, files.toSorted()]))
    )
    for (const [name, files] of Object.entries(above)) assert.isAtMost(files.length, most, name)
  })
})

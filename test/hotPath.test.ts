/** Keeps the hot path as light as it is: counts, which are the same on a fast and on a busy machine. */
import { assert, describe, it } from "@effect/vitest"
import { execFile } from "node:child_process"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import type { Cost } from "./support/hotPath.ts"

const script = fileURLToPath(new URL("./support/hotPath.ts", import.meta.url))

// all that is allocated between two looks at the heap has to fit into young space: there is no collection meanwhile
const flags = ["--expose-gc", "--min-semi-space-size=64", "--max-semi-space-size=128"]

/**
 * Bytes for one message of 64 bytes, and tasks for one batch of 32, measured on Node 24.21 when this was written; eight
 * runs were within 2 %. What became lighter is written down here, so that it stays so.
 *
 * Without short cuts a writer is parked in `Queue.take`, and an offer to a queue with a taker schedules a task: the second.
 */
const written = {
  perMessage: { bytes: 285, tasks: 1 },
  perBatch: { bytes: 220, tasks: 1 },
  perMessageInFibers: { bytes: 425, tasks: 2 },
  perBatchInFibers: { bytes: 350, tasks: 2 }
} satisfies Record<string, Cost>

// runs differ by 2 %; what is a quarter heavier is a mistake
const tolerance = 1.25

describe("hot path", () => {
  it("an echoed message allocates no more, and a batch wakes no more fibers, than when this was written", async () => {
    const { stdout } = await promisify(execFile)(process.execPath, [...flags, script], {
      env: { ...process.env, HOLDFAST_SHORT_CUTS: "on" }
    })
    const measured = JSON.parse(stdout) as typeof written
    for (const handler of Object.keys(written) as Array<keyof typeof written>) {
      const { bytes, tasks } = measured[handler]
      const limit = written[handler]
      const figures = `${handler}: ${Math.round(bytes)} bytes a message, ${tasks} tasks a batch`
      // below this it no longer measures what it says
      assert.isAbove(bytes, 100, figures)
      assert.isAtMost(bytes, limit.bytes * tolerance, figures)
      assert.isAtMost(tasks, limit.tasks, figures)
    }
  }, 120_000)
})

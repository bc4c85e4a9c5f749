/** What is read is collected while it is young: V8 need not mark all of its heap for it. */
import { assert, describe, it } from "@effect/vitest"
import { execFile } from "node:child_process"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"

const script = fileURLToPath(new URL("../support/collections.ts", import.meta.url))

// the young space of a program that has loaded much has grown so far
const flags = ["--min-semi-space-size=32", "--max-semi-space-size=32"]

const marksOf = async (how: "plain" | "stream"): Promise<number> => {
  const { stdout } = await promisify(execFile)(process.execPath, [...flags, script, how])
  return Number(stdout)
}

describe("collections", () => {
  it("a gigabyte in reads of 16 KiB does not have V8 mark its heap, as it does by itself", async () => {
    const [plain, stream] = await Promise.all([marksOf("plain"), marksOf("stream")])
    assert.isAtLeast(plain, 8, "without a stream: this would no longer show anything")
    // loading code takes some
    assert.isAtMost(stream, plain / 3)
  }, 60_000)
})

import { assert, describe, it } from "@effect/vitest"
import { execFile } from "node:child_process"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { Codec } from "../../src/index.ts"
import { setUnshared } from "../../src/internal/bytes/memory.ts"
import { bundledProgram } from "../cli/support/bundle.ts"

const large = 65536

/** A frame whose payload comes in chunks of these sizes, each filled with its index. */
const inChunks = (...sizes: ReadonlyArray<number>) => {
  const header = new Uint8Array(4)
  new DataView(header.buffer).setUint32(0, sizes.reduce((sum, size) => sum + size))
  return { header, chunks: sizes.map((size, i) => new Uint8Array(size).fill(i + 1)) }
}

const joined = (header: Uint8Array, chunks: ReadonlyArray<Uint8Array>) => {
  const copies = chunks.map((chunk) => chunk.slice())
  const decoder = Codec.decoder(Codec.lengthPrefix(), { maxFrame: 10 * large })
  const messages = [header, ...chunks].flatMap((chunk) => decoder.write(chunk).messages)
  assert.strictEqual(messages.length, 1)
  assert.deepStrictEqual(Buffer.from(messages[0]), Buffer.concat(copies))
}

describe("the memory of what was read", () => {
  it("is given back when a large frame is joined, if it was given away", () => {
    const { chunks, header } = inChunks(large, large, large)
    const [first, second, third] = chunks
    for (const chunk of [first, third]) setUnshared(chunk)
    joined(header, chunks)
    assert.deepStrictEqual([first.length, second.length, third.length], [0, large, 0])
  })

  it("is left alone where another frame is in it, where it is small, and where it is the frame", () => {
    const decoder = Codec.decoder(Codec.lengthPrefix(), { maxFrame: 10 * large })
    const { chunks, header } = inChunks(large, 1000)
    const [begun, end] = chunks
    const whole = new Uint8Array([0, 0, 0, 3, 1, 2, 3])
    const chunk = new Uint8Array([...whole, ...header, ...begun])
    for (const one of [chunk, end]) setUnshared(one)
    const [small] = decoder.write(chunk).messages
    assert.strictEqual(decoder.write(end).messages.length, 1)
    assert.deepStrictEqual([...small], [1, 2, 3])
    assert.strictEqual(end.length, 1000)
    const alone = inChunks(large)
    setUnshared(alone.chunks[0])
    decoder.write(alone.header)
    assert.strictEqual(decoder.write(alone.chunks[0]).messages[0].length, large)
  })

  it("weighs in the young generation, in a bundled program as well", async () => {
    const file = await bundledProgram(fileURLToPath(new URL("../support/balance.ts", import.meta.url)))
    // there is no collection meanwhile
    const flags = ["--expose-gc", "--min-semi-space-size=64", "--max-semi-space-size=128"]
    const { stdout } = await promisify(execFile)(process.execPath, [...flags, file])
    assert.isAbove(JSON.parse(stdout) as number, 30_000)
  })
})

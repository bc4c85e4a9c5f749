/** The decoder alone: small frames in the chunks a socket reads, large frames across many of them. */
import { performance } from "node:perf_hooks"
import * as Codec from "../../../src/Codec.ts"
import type { Measured } from "../loads.ts"
import { onCommand } from "../support/commands.ts"

const chunkSize = 64 * 1024

/** Frames of one size, one behind the other, cut into chunks; the last chunk ends a frame. */
const chunksOf = (payload: number, atLeast: number): ReadonlyArray<Uint8Array> => {
  const frame = new Uint8Array(4 + payload)
  new DataView(frame.buffer).setUint32(0, payload)
  const count = Math.ceil(atLeast / frame.length)
  const stream = new Uint8Array(count * frame.length)
  for (let i = 0; i < count; i++) stream.set(frame, i * frame.length)
  return Array.from({ length: Math.ceil(stream.length / chunkSize) }, (_, i) =>
    stream.subarray(i * chunkSize, (i + 1) * chunkSize))
}

const decode = (chunks: ReadonlyArray<Uint8Array>, seconds: number) => {
  const decoder = Codec.decoder(Codec.lengthPrefix())
  let frames = 0
  let bytes = 0
  const start = performance.now()
  while (performance.now() - start < seconds * 1000) {
    for (const chunk of chunks) {
      const { error, messages } = decoder.write(chunk)
      if (error !== undefined) throw new Error(error.message)
      frames += messages.length
      bytes += chunk.length
    }
  }
  const elapsed = (performance.now() - start) / 1000
  return { frames: frames / elapsed, bytes: bytes / elapsed }
}

onCommand("measure", ({ rounds, seconds }: { readonly rounds: number; readonly seconds: number }) => {
  const small = chunksOf(64, 16 * chunkSize)
  const large = chunksOf(1024 * 1024, 8 * 1024 * 1024)
  const figures: { frames: Array<number>; bytes: Array<number> } = { frames: [], bytes: [] }
  for (let round = 0; round <= rounds; round++) {
    const { frames } = decode(small, seconds / 2)
    const { bytes } = decode(large, seconds / 2)
    if (round === 0) continue
    figures.frames.push(frames)
    figures.bytes.push(bytes)
  }
  const measured: ReadonlyArray<Measured> = [
    { load: "decoder 64 B", server: "holdfast", unit: "frame/s", rounds: figures.frames },
    { load: "decoder 1 MiB", server: "holdfast", unit: "B/s", rounds: figures.bytes }
  ]
  return measured
})

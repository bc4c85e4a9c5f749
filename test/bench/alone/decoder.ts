/** The decoder alone: small frames in the chunks a socket reads, large frames across many of them. */
import { performance } from "node:perf_hooks"
import * as Codec from "../../../src/Codec.ts"
import type { Measured } from "../rounds.ts"
import { onCommand } from "../support/commands.ts"

const chunkSize = 64 * 1024

/** Frames of one size, one behind the other, cut into chunks; the last chunk ends a frame. */
const chunksOf = (payload: number, atLeast: number): ReadonlyArray<Uint8Array> => {
  const frame = new Uint8Array(4 + payload)
  new DataView(frame.buffer).setUint32(0, payload)
  const count = Math.ceil(atLeast / frame.length)
  const stream = new Uint8Array(count * frame.length)
  for (let i = 0; i < count; i++) stream.set(frame, i * frame.length)
  return Array.from(
    { length: Math.ceil(stream.length / chunkSize) },
    (_, i) => stream.subarray(i * chunkSize, (i + 1) * chunkSize)
  )
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

interface Order {
  readonly rounds: number
  readonly seconds: number
}

/** The first round is not counted. */
const figures = ({ rounds, seconds }: Order, chunks: ReadonlyArray<Uint8Array>) =>
  Array.from({ length: rounds + 1 }, () => decode(chunks, seconds)).slice(1)

onCommand("small", (order: Order): Measured => ({
  load: "decoder 64 B",
  server: "holdfast",
  unit: "frame/s",
  rounds: figures(order, chunksOf(64, 16 * chunkSize)).map(({ frames }) => frames)
}))
onCommand("large", (order: Order): Measured => ({
  load: "decoder 1 MiB",
  server: "holdfast",
  unit: "B/s",
  rounds: figures(order, chunksOf(1024 * 1024, 8 * 1024 * 1024)).map(({ bytes }) => bytes)
}))

/** Frames by hand, written from RFC 6455 without the code under test, and what readers make of them. */
import { createRequire } from "node:module"
import type { Writable } from "node:stream"
import type { Failure } from "../../../src/internal/webSocket/failure.ts"
import type { Role } from "../../../src/internal/webSocket/header.ts"
import { Reader, type ReaderOptions } from "../../../src/internal/webSocket/reader.ts"

// not in `@types/ws` 8.18
const { Receiver } = createRequire(import.meta.url)("ws") as {
  readonly Receiver: new(options: { readonly isServer: boolean; readonly maxPayload: number }) => Writable
}

export interface FrameOptions {
  readonly fin?: boolean
  /** RSV1 is 4, RSV2 is 2, RSV3 is 1. */
  readonly rsv?: number
  readonly opcode: number
  readonly payload?: string | ReadonlyArray<number> | Uint8Array
  /** What the header says, where that is not the size of the payload. */
  readonly length?: number | bigint
  /** Bits of the length: 7, 16 or 64. */
  readonly bits?: 7 | 16 | 64
  /** `undefined`: not masked. */
  readonly key?: ReadonlyArray<number> | undefined
}

export const bytesOf = (payload: string | ReadonlyArray<number> | Uint8Array): Uint8Array =>
  typeof payload === "string" ? new TextEncoder().encode(payload) : Uint8Array.from(payload)

export const frame = (options: FrameOptions): ReadonlyArray<number> => {
  const { fin = true, key, opcode, rsv = 0 } = options
  const payload = bytesOf(options.payload ?? [])
  const length = BigInt(options.length ?? payload.length)
  const bits = options.bits ?? (length < 126n ? 7 : length < 65536n ? 16 : 64)
  const extended: Array<number> = []
  for (let at = bits === 7 ? 0 : bits; at > 0; at -= 8) extended.push(Number((length >> BigInt(at - 8)) & 255n))
  return [
    (fin ? 128 : 0) + rsv * 16 + opcode,
    (key === undefined ? 0 : 128) + (bits === 7 ? Number(length) : bits === 16 ? 126 : 127),
    ...extended,
    ...(key ?? []),
    ...Array.from(payload, (byte, i) => key === undefined ? byte : byte ^ key[i % 4]!)
  ]
}

/** What a reader made of bytes: an entry for each event, and at the end the code of the failure, if there is one. */
export type Story = ReadonlyArray<string>

export const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex")

const message = (payload: Uint8Array | string): string =>
  typeof payload === "string" ? `text ${JSON.stringify(payload)}` : `binary ${hex(payload)}`

export interface Told {
  readonly story: Array<string>
  readonly reader: Reader
}

export const tell = (options: ReaderOptions, Class = Reader): Told => {
  const story: Array<string> = []
  return {
    story,
    reader: new Class(options, {
      message: (payload) => story.push(message(payload)),
      ping: (payload) => story.push(`ping ${hex(payload)}`),
      pong: (payload) => story.push(`pong ${hex(payload)}`),
      close: (code, reason) => story.push(`close ${code} ${JSON.stringify(reason)}`)
    })
  }
}

/** Where to cut `length` bytes. */
export type Cut = (length: number) => ReadonlyArray<number>

export const whole: Cut = () => []
export const everywhere: Cut = (length) => Array.from({ length: Math.max(0, length - 1) }, (_, i) => i + 1)

/** Cuts that are the same in every run. */
export const seeded = (seed: number): Cut => {
  let state = seed * 2654435761 + 1
  const next = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32
  return (length) => everywhere(length).filter(() => next() < 0.3)
}

/** Pieces of their own: a reader may write into them. */
export const pieces = (bytes: ReadonlyArray<number>, cut: Cut): ReadonlyArray<Uint8Array> => {
  const all = Uint8Array.from(bytes)
  const at = [0, ...cut(bytes.length), bytes.length]
  return at.slice(1).map((end, i) => all.slice(at[i], end))
}

export const ours = (
  role: Role,
  maxFrame: number,
  chunks: ReadonlyArray<Uint8Array>,
  Class = Reader
): { readonly story: Story; readonly failure: Failure | undefined; readonly pending: number } => {
  const { reader, story } = tell({ role, maxFrame }, Class)
  let failure: Failure | undefined
  for (const chunk of chunks) failure = reader.write(chunk)
  return {
    story: failure === undefined ? story : [...story, `fail ${failure.code}`],
    failure,
    pending: reader.pending
  }
}

/** The same by the receiver of `ws`. Its callbacks are synchronous as long as nothing is compressed. */
export const theirs = (role: Role, maxFrame: number, chunks: ReadonlyArray<Uint8Array>): Story => {
  const receiver = new Receiver({ isServer: role === "server", maxPayload: maxFrame })
  const story: Array<string> = []
  let isOver = false
  receiver.on("message", (data: Buffer, isBinary: boolean) => {
    story.push(message(isBinary ? data : data.toString()))
  })
  receiver.on("ping", (data: Buffer) => story.push(`ping ${hex(data)}`))
  receiver.on("pong", (data: Buffer) => story.push(`pong ${hex(data)}`))
  receiver.on("conclude", (code: number, reason: Buffer) => {
    isOver = true
    story.push(`close ${code} ${JSON.stringify(reason.toString())}`)
  })
  for (const chunk of chunks) {
    if (isOver) break
    receiver._write(Buffer.from(chunk), "utf8", (error) => {
      if (!(error instanceof Error)) return
      isOver = true
      const symbol = Object.getOwnPropertySymbols(error).find((one) => one.description === "status-code")!
      story.push(`fail ${(error as unknown as Record<symbol, number>)[symbol]}`)
    })
  }
  return story
}

/** Messages that are compressed, told as they are read: by the reader of ours, and by the receiver of `ws`. */
import { createRequire } from "node:module"
import type { Writable } from "node:stream"
import * as Zlib from "node:zlib"
import { inflating } from "../../../src/internal/webSocket/decoder.ts"
import type { Role } from "../../../src/internal/webSocket/header.ts"
import { Reader } from "../../../src/internal/webSocket/reader.ts"
import { type Agreed, compressionOf } from "../../../src/node/internal/deflate/zlib.ts"
import { bytesOf, frame, type FrameOptions, hex, type Story } from "./wire.ts"

// neither is in `@types/ws` 8.18
const { PerMessageDeflate, Receiver } = createRequire(import.meta.url)("ws") as {
  readonly PerMessageDeflate: new(options: object) => { readonly accept: (offers: ReadonlyArray<object>) => void }
  readonly Receiver: new(options: {
    readonly isServer: boolean
    readonly maxPayload: number
    readonly extensions: Readonly<Record<string, unknown>>
  }) => Writable
}

export const agreed: Agreed = {
  threshold: 0,
  level: 6,
  sentBits: 15,
  receivedBits: 15,
  keepsSent: false,
  keepsReceived: false
}

export const compression = compressionOf(agreed)
export const withContexts = compressionOf({ ...agreed, keepsSent: true, keepsReceived: true })

/** What a compressor of its own makes of a message, without the tail. */
export const deflated = (
  message: string | Uint8Array | ReadonlyArray<number>,
  options: Zlib.ZlibOptions = {}
): Buffer => {
  const all = Zlib.deflateRawSync(bytesOf(message), { finishFlush: Zlib.constants.Z_SYNC_FLUSH, ...options })
  return options.finishFlush === undefined ? all.subarray(0, -4) : all
}

const key = [1, 2, 3, 4]

/** A frame of the peer of `role`; compressed unless it says otherwise. */
export const framed = (role: Role, options: FrameOptions): ReadonlyArray<number> =>
  frame({
    rsv: options.opcode === 1 || options.opcode === 2 ? 4 : 0,
    key: role === "server" ? key : undefined,
    ...options
  })

const message = (payload: Uint8Array | string): string =>
  typeof payload === "string" ? `text ${JSON.stringify(payload)}` : `binary ${hex(payload)}`

interface Reading {
  readonly role: Role
  readonly maxFrame: number
  readonly isContextKept?: boolean | undefined
  readonly skips?: boolean | undefined
}

/** What reads, and each part of it in which a mutant may be. */
export const sound = { Reader, inflating, compressionOf }

export const ours = (
  { isContextKept = false, maxFrame, role, skips }: Reading,
  chunks: ReadonlyArray<Uint8Array>,
  made = sound
): Story => {
  const story: Array<string> = []
  const extension = made.inflating(made.compressionOf({ ...agreed, keepsReceived: isContextKept }))
  const reader = new made.Reader({ role, maxFrame, skips, extension }, {
    message: (payload) => story.push(message(payload)),
    skip: (size) => story.push(`skip ${size}`),
    ping: (payload) => story.push(`ping ${hex(payload)}`),
    pong: (payload) => story.push(`pong ${hex(payload)}`),
    close: (code, reason) => story.push(`close ${code} ${JSON.stringify(reason)}`)
  })
  let failure
  for (const chunk of chunks) failure = reader.write(chunk)
  return failure === undefined ? story : [...story, `fail ${failure.code}`]
}

/** The same by `ws`, which inflates in other threads. */
export const theirs = async (
  { isContextKept = false, maxFrame, role }: Reading,
  chunks: ReadonlyArray<Uint8Array>
): Promise<Story> => {
  const extension = new PerMessageDeflate({ isServer: role === "server", maxPayload: maxFrame })
  extension.accept([
    isContextKept ? {} : { client_no_context_takeover: [true], server_no_context_takeover: [true] }
  ])
  const receiver = new Receiver({
    isServer: role === "server",
    maxPayload: maxFrame,
    extensions: { "permessage-deflate": extension }
  })
  const story: Array<string> = []
  receiver.on("message", (data: Buffer, isBinary: boolean) => story.push(message(isBinary ? data : data.toString())))
  receiver.on("ping", (data: Buffer) => story.push(`ping ${hex(data)}`))
  receiver.on("pong", (data: Buffer) => story.push(`pong ${hex(data)}`))
  await new Promise<void>((resolve) => {
    receiver.on("conclude", (code: number, reason: Buffer) => {
      story.push(`close ${code} ${JSON.stringify(reason.toString())}`)
      resolve()
    })
    receiver.on("error", (error) => {
      const symbol = Object.getOwnPropertySymbols(error).find((one) => one.description === "status-code")!
      story.push(`fail ${(error as unknown as Record<symbol, number>)[symbol]}`)
      resolve()
    })
    const next = (i: number): void => {
      if (i === chunks.length) return void receiver.end(() => setImmediate(resolve))
      receiver.write(Buffer.from(chunks[i]!), () => next(i + 1))
    }
    next(0)
  })
  return story
}

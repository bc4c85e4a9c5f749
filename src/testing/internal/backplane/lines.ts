/** What a simulated engine and its clients say to each other: JSON, one line each. */
import type { BackplaneError, ClaimOptions, Token } from "../../../Backplane.ts"

/**
 * What a client asks. A node has two connections: over the one that says `join` it hears, over the one that says `speak` it asks
 * everything else. So an answer and a batch may overtake each other, as those of real engines do. Each `join` of a node begins
 * another session: what was asked in the one before and comes later is refused.
 */
export type Question =
  | { readonly _tag: "join"; readonly node: string; readonly lease: number }
  | { readonly _tag: "speak"; readonly node: string; readonly session: number }
  | { readonly _tag: "renew"; readonly isLeaving: boolean }
  | { readonly _tag: "nodes" }
  | { readonly _tag: "claim"; readonly key: string; readonly options: ClaimOptions }
  | { readonly _tag: "release"; readonly key: string; readonly token: Token }
  | { readonly _tag: "find"; readonly key: string }
  | { readonly _tag: "publish"; readonly node: string; readonly batch: string }
  | { readonly _tag: "leave" }

export interface Asked {
  readonly id: number
  readonly epoch: number
  readonly question: Question
}

/** What the engine says: an answer, a batch, or that batches are missing. */
export type Said =
  | { readonly _tag: "answer"; readonly id: number; readonly value?: unknown }
  | { readonly _tag: "failure"; readonly id: number; readonly reason: BackplaneError["reason"] }
  | { readonly _tag: "batch"; readonly batch: string }
  | { readonly _tag: "gap"; readonly count: number }

/** Bytes as a text of as many characters. */
export const textOf = (bytes: Uint8Array): string => {
  let text = ""
  for (const byte of bytes) text += String.fromCharCode(byte)
  return text
}

export const bytesOf = (text: string): Uint8Array => Uint8Array.from(text, (char) => char.charCodeAt(0))

/** Finds the lines in what comes in pieces. */
export class Lines {
  private readonly decoder = new TextDecoder()
  private rest = ""

  read(chunks: ReadonlyArray<Uint8Array | string>): ReadonlyArray<string> {
    let text = this.rest
    for (const chunk of chunks) text += typeof chunk === "string" ? chunk : this.decoder.decode(chunk, { stream: true })
    const lines = text.split("\n")
    this.rest = lines.pop()!
    return lines
  }
}

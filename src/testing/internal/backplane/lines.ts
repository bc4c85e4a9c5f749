/** What a simulated engine and its clients say to each other: JSON, one line each. */
import * as Base64 from "effect/encoding/Base64"
import * as Result from "effect/Result"
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

/** Bytes as a text. */
export const textOf = (bytes: Uint8Array): string => Base64.encode(bytes)

export const bytesOf = (text: string): Uint8Array => Result.getOrThrow(Base64.decode(text))

/** Finds the lines in what comes in pieces. */
export class Lines {
  private readonly decoder = new TextDecoder()
  private rest = ""

  read(chunks: ReadonlyArray<Uint8Array | string>): ReadonlyArray<string> {
    const all: Array<string> = []
    for (const chunk of chunks) {
      const lines = (typeof chunk === "string" ? chunk : this.decoder.decode(chunk, { stream: true })).split("\n")
      lines[0] = this.rest + lines[0]!
      this.rest = lines.pop()!
      all.push(...lines)
    }
    return all
  }
}

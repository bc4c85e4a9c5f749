/** What the bucket of a fleet's directory holds, as text. */
import type { KvEntry } from "@nats-io/kv"
import { createHash } from "node:crypto"
import type { Holder, Token } from "../../internal/backplane/engine.ts"

/** Who holds a key, by which claim, under which lease. */
export interface Held extends Holder {
  readonly generation: string
}

/** A key as the directory has it: without a holder, but with a revision, where it was removed. */
export interface Entry {
  readonly revision: number
  readonly held: Held | undefined
  /** The newest login that wants it. */
  readonly wanted: Holder | undefined
}

/** The entry that says in which epoch the directory is. No key has this name. */
export const epochKey = "epoch"

const longest = 300

/** The name of a key in the directory, where few characters may be in names. */
export const nameOf = (key: string): string => {
  const bytes = Buffer.from(key, "utf8")
  return bytes.length > longest
    ? `h${createHash("sha256").update(bytes).digest("base64url")}`
    : `k${bytes.toString("base64url")}`
}

/** A token that has no number yet: that will be the revision. */
export interface Unnumbered {
  readonly epoch: number
  readonly number: undefined
}

/** What is to be written: of the two, one may be a new login. */
export interface Written {
  readonly held: { readonly node: string; readonly generation: string; readonly token: Token | Unnumbered }
  readonly wanted: { readonly node: string; readonly token: Token | Unnumbered } | undefined
}

const tokenText = ({ epoch, number }: Token | Unnumbered): string => `${epoch} ${number ?? "="}`

export const textOf = ({ held, wanted }: Written): string => {
  const holder = `${held.node} ${held.generation} ${tokenText(held.token)}`
  return wanted === undefined ? holder : `${holder} ${wanted.node} ${tokenText(wanted.token)}`
}

/** A login that is remembered, as the bucket of those has it. */
export const lastText = ({ node, token }: Holder): string => `${node} ${tokenText(token)}`

/** The login that is remembered, if there is one. */
export const lastOf = (entry: KvEntry | null): Holder | undefined => {
  if (entry === null || entry.operation !== "PUT") return undefined
  const [node, epoch, number] = entry.string().split(" ")
  return { node: node!, token: { epoch: Number(epoch), number: Number(number) } }
}

export const entryOf = (entry: KvEntry | null): Entry => {
  if (entry === null) return { revision: 0, held: undefined, wanted: undefined }
  const { revision } = entry
  if (entry.operation !== "PUT") return { revision, held: undefined, wanted: undefined }
  const tokenOf = (epoch: string, number: string): Token => ({
    epoch: Number(epoch),
    number: number === "=" ? revision : Number(number)
  })
  const [node, generation, epoch, number, wants, second, rank] = entry.string().split(" ")
  return {
    revision,
    held: { node: node!, generation: generation!, token: tokenOf(epoch!, number!) },
    wanted: wants === undefined ? undefined : { node: wants, token: tokenOf(second!, rank!) }
  }
}

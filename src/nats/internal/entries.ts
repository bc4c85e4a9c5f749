/** What the bucket of a fleet's directory holds, as text. */
import type { KvEntry } from "@nats-io/kv"
import { createHash } from "node:crypto"
import type { Token } from "../../internal/backplane/engine.ts"

/** Who holds a key, by which claim, under which lease. */
export interface Held {
  readonly node: string
  readonly generation: string
  readonly token: Token
}

/** A key as the directory has it: without a holder, but with a revision, where it was removed. */
export interface Entry {
  readonly revision: number
  readonly held: Held | undefined
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

/** A new login has no number: that is the revision. */
export const heldText = (node: string, generation: string, epoch: number, number: number | undefined): string =>
  number === undefined ? `${node} ${generation} ${epoch}` : `${node} ${generation} ${epoch} ${number}`

export const entryOf = (entry: KvEntry | null): Entry => {
  if (entry === null) return { revision: 0, held: undefined }
  const { revision } = entry
  if (entry.operation !== "PUT") return { revision, held: undefined }
  const [node, generation, epoch, number] = entry.string().split(" ")
  const token = { epoch: Number(epoch), number: number === undefined ? revision : Number(number) }
  return { revision, held: { node: node!, generation: generation!, token } }
}

/** The claims of a node: each is an update at the revision that was read. */
import * as Effect from "effect/Effect"
import * as Semaphore from "effect/Semaphore"
import {
  BackplaneError,
  type Claim,
  type ClaimOptions,
  type Holder,
  isNewer,
  type Token
} from "../../internal/backplane/engine.ts"
import type { Connection } from "./connection.ts"
import { type Entry, entryOf, type Held, lastOf, lastText, nameOf, textOf, type Written } from "./entries.ts"

/** What was seen of the directory in its epoch. */
export interface Seen {
  /** The greatest revision. */
  revision: number
}

/** Whose claims they are. */
export interface Owner {
  readonly node: string
  /** Of its lease. */
  readonly generation: () => string
  readonly isAlive: (connection: Connection, held: Held) => Effect.Effect<boolean, BackplaneError>
}

const isSame = (a: Token, b: Token): boolean => a.epoch === b.epoch && a.number === b.number

/** A key that no node has claimed, as most new logins find it: the write says whether that is so. */
const unclaimed: Entry = { revision: 0, held: undefined, wanted: undefined }

// so many keys that other nodes hold are known by what was written to them last
const mostMarked = 10_000

export class Claims {
  private readonly seen: Seen
  private readonly owner: Owner
  // what this node has claimed: to claim it again or to release it needs no question
  private readonly own = new Map<string, Entry>()
  // what this node has marked: to claim it when its holder is gone needs no question
  private readonly marked = new Map<string, Entry>()
  // whether the last new login found its key held: those of a node that died come by the thousand, and a write would be in vain
  private wasHeld = false
  private readonly turns = new Map<string, { readonly semaphore: Semaphore.Semaphore; count: number }>()

  constructor(seen: Seen, owner: Owner) {
    this.seen = seen
    this.owner = owner
  }

  /** What a claim has to write, and what it is then. */
  private decide(
    { held, wanted }: Entry,
    isHeld: boolean,
    epoch: number,
    { as, onlyIfFree, over }: ClaimOptions
  ): { readonly written: Written | undefined; readonly holder: Holder | undefined } {
    const { node } = this.owner
    const token = as ?? { epoch, number: undefined }
    const mine = { node, generation: this.owner.generation(), token }
    // a new login is newer than all
    const isOlder = (than: Token | undefined) => than !== undefined && as !== undefined && isNewer(than, as)
    // also where its lease has ended: the node that is cut off may have that login still
    if (held !== undefined && isOlder(held.token)) return { written: undefined, holder: held }
    if (held === undefined || !isHeld) return { written: { held: mine, wanted: undefined }, holder: undefined }
    if (held.node !== node && (over === undefined || !isSame(held.token, over))) {
      const isMarked = wanted !== undefined && as !== undefined && !isNewer(as, wanted.token)
      return { written: isMarked || onlyIfFree === true ? undefined : { held, wanted: mine }, holder: held }
    }
    const isWanted = wanted !== undefined && wanted.node !== node && isOlder(wanted.token)
    if (isWanted && held.node === node) return { written: undefined, holder: wanted }
    return { written: { held: mine, wanted: isWanted ? wanted : undefined }, holder: undefined }
  }

  private mark(name: string, entry: Entry): void {
    if (this.marked.size >= mostMarked) {
      const [oldest] = this.marked.keys()
      this.marked.delete(oldest!)
    }
    this.marked.set(name, entry)
  }

  claim(
    connection: Connection,
    epoch: number,
    key: string,
    options: ClaimOptions
  ): Effect.Effect<Claim, BackplaneError> {
    const { node } = this.owner
    const name = nameOf(key)
    const read = Effect.map(connection.read("directory", name), entryOf)
    return Effect.gen({ self: this }, function*() {
      const isNew = options.as === undefined && options.over === undefined
      // where this node wrote last, no newer login has come and gone meanwhile
      const guess = isNew && !this.wasHeld ? unclaimed : undefined
      let known = this.own.get(name) ?? (isNew ? guess : this.marked.get(name))
      let entry = known ?? (yield* read)
      this.marked.delete(name)
      while (true) {
        const isHeld = entry.held !== undefined && (yield* this.owner.isAlive(connection, entry.held))
        if (isNew && entry !== unclaimed) this.wasHeld = entry.held !== undefined && entry.held.node !== node
        const { holder, written } = this.decide(entry, isHeld, epoch, options)
        const before = this.seen.revision
        let token = options.as
        if (written !== undefined) {
          const revision = yield* connection.write("directory", name, textOf(written), entry.revision)
          if (revision === undefined) {
            this.own.delete(name)
            known = undefined
            entry = yield* read
            continue
          }
          // another bucket, which counts from the beginning
          if (revision <= before) return yield* Effect.fail(new BackplaneError({ reason: "epoch" }))
          this.seen.revision = Math.max(this.seen.revision, revision)
          token ??= { epoch, number: revision }
          if (holder === undefined) {
            if (options.as !== undefined && known === undefined) {
              const last = lastOf(yield* connection.read("gone", name))
              if (last !== undefined && isNewer(last.token, token)) {
                yield* this.release(connection, key, token)
                return { _tag: "Taken", token, holder: last }
              }
            }
            const held = { node, generation: this.owner.generation(), token }
            this.own.set(name, { revision, held, wanted: written.wanted as Holder | undefined })
          } else this.mark(name, { revision, held: entry.held, wanted: { node, token } })
        }
        return holder === undefined
          ? { _tag: "Claimed", token: token! }
          : { _tag: "Taken", token: token ?? holder.token, holder: { node: holder.node, token: holder.token } }
      }
    })
  }

  /** Claims of one key wait for each other here: each that comes in between would cost all others another try. */
  inTurn<A>(key: string, effect: Effect.Effect<A, BackplaneError>): Effect.Effect<A, BackplaneError> {
    return Effect.acquireUseRelease(
      Effect.sync(() => {
        const turn = this.turns.get(key) ?? { semaphore: Semaphore.makeUnsafe(1), count: 0 }
        turn.count++
        this.turns.set(key, turn)
        return turn
      }),
      (turn) => turn.semaphore.withPermit(effect),
      (turn) =>
        Effect.sync(() => {
          if (--turn.count === 0) this.turns.delete(key)
        })
    )
  }

  release(connection: Connection, key: string, token: Token): Effect.Effect<void, BackplaneError> {
    const name = nameOf(key)
    return Effect.gen({ self: this }, function*() {
      let entry = this.own.get(name)
      this.own.delete(name)
      while (true) {
        entry ??= entryOf(yield* connection.read("directory", name))
        if (entry.held?.node !== this.owner.node || !isSame(entry.held.token, token)) return
        // an older login, of a node that is cut off, is not to take it again
        yield* this.remember(connection, name, entry.wanted ?? entry.held)
        if (yield* connection.erase(entry.revision)) return
        // a mark may have been made at it
        entry = undefined
      }
    })
  }

  /** Has the newest login of a key remembered, before no node holds it any more. */
  private remember(connection: Connection, name: string, newest: Holder): Effect.Effect<void, BackplaneError> {
    return Effect.gen(function*() {
      let revision = 0
      while ((yield* connection.write("gone", name, lastText(newest), revision)) === undefined) {
        const entry = yield* connection.read("gone", name)
        const last = lastOf(entry)
        if (last !== undefined && !isNewer(newest.token, last.token)) return
        revision = entry?.revision ?? 0
      }
    })
  }
}

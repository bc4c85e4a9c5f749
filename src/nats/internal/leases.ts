/** The leases of all nodes, as a bucket tells them that is followed. It says nothing when one ends: that is reckoned here. */
import type { KvEntry } from "@nats-io/kv"
import type { Member } from "../../internal/backplane/engine.ts"

/** A lease as its bucket has it. Another generation is another lease: what was held under an earlier one is free. */
export interface Lease {
  readonly generation: string
  readonly isLeaving: boolean
}

export const leaseText = ({ generation, isLeaving }: Lease): string => `${generation} ${isLeaving ? 1 : 0}`

/** The lease of an entry, when it is none that was removed. */
export const leaseOf = (entry: KvEntry | null): Lease | undefined => {
  if (entry === null || entry.operation !== "PUT") return undefined
  const [generation, leaving] = entry.string().split(" ")
  return { generation: generation!, isLeaving: leaving === "1" }
}

interface Waiter {
  readonly revision: number
  readonly tell: () => void
}

/** Times are milliseconds: those of the server are of its time of day, `now` is of a clock that is not set. */
export class Leases {
  private readonly millis: number
  private readonly known = new Map<string, Lease & { readonly created: number }>()
  // by how much the clock of the server is ahead of `now`, less what its messages take
  private ahead = -Infinity
  private revision = 0
  private waiters: Array<Waiter> = []

  constructor(millis: number) {
    this.millis = millis
  }

  apply(entry: KvEntry, now: number): void {
    const created = entry.created.getTime()
    this.ahead = Math.max(this.ahead, created - now)
    const lease = leaseOf(entry)
    if (lease === undefined) this.known.delete(entry.key)
    else this.known.set(entry.key, { ...lease, created })
    this.revision = entry.revision
    const waiters = this.waiters
    this.waiters = waiters.filter(({ revision }) => revision > this.revision)
    for (const { revision, tell } of waiters) if (revision <= this.revision) tell()
  }

  /** Tells once a revision was seen. */
  when(revision: number, tell: () => void): void {
    if (revision <= this.revision) tell()
    else this.waiters.push({ revision, tell })
  }

  isAlive(node: string, generation: string, now: number): boolean {
    const lease = this.known.get(node)
    return lease?.generation === generation && now + this.ahead < lease.created + this.millis
  }

  alive(now: number): ReadonlyArray<Member> {
    const members: Array<Member> = []
    for (const [node, { created, isLeaving }] of this.known) {
      if (now + this.ahead < created + this.millis) members.push({ node, isLeaving })
      else this.known.delete(node)
    }
    return members
  }
}

/** One stay of a node in a fleet on Redis: what is asked of the server, and what comes from it. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import {
  BackplaneError,
  type Claim,
  type Holder,
  type JoinOptions,
  type Member,
  type Session,
  type Token
} from "../../internal/backplane/engine.ts"
import { Inbox } from "../../internal/backplane/inbox.ts"
import { Line } from "../../internal/backplane/line.ts"
import { type Connection, open, type Settings } from "./connection.ts"
import * as Scripts from "./scripts.ts"

/** What all sessions of one engine share. */
export interface Shared extends Settings {
  readonly prefix: string
  /** The largest batch: what its user allows, or the server if that is less. */
  largest: number
  /** The greatest epoch that was seen. */
  seen: number
}

const mostWaiting = 1024

interface Joined {
  readonly epoch: number
  readonly age: number
  readonly session: string
}

const holderOf = (node: string, epoch: string, number: string): Holder => ({
  node,
  token: { epoch: Number(epoch), number: Number(number) }
})

const tokenOf = (token: Token | undefined): ReadonlyArray<string> =>
  token === undefined ? ["", ""] : [String(token.epoch), String(token.number)]

/** What scripts fail with, in place of an answer. */
const checked = ([status, ...answer]: ReadonlyArray<string>): Effect.Effect<ReadonlyArray<string>, BackplaneError> =>
  status === "epoch" || status === "lease"
    ? Effect.fail(new BackplaneError({ reason: status }))
    : Effect.succeed([status!, ...answer])

export class Stay {
  private readonly shared: Shared
  private readonly options: JoinOptions
  private readonly at: string
  private readonly inbox = new Inbox(mostWaiting)
  private readonly line: Line<Connection, Joined>
  private client = ""

  constructor(shared: Shared, options: JoinOptions) {
    this.shared = shared
    this.options = options
    this.at = `{${shared.prefix}}:`
    this.line = new Line({
      name: "holdfast.redis",
      timeout: shared.timeout,
      open: open(shared),
      begin: (connection) => this.begin(connection),
      resume: (connection, joined) => this.resume(connection, joined),
      ended: (error) => this.inbox.end(error)
    })
  }

  private channelOf(node: string): string {
    return `${this.at}to:${node}`
  }

  /** The inbox, and what the server says of itself. */
  private listen(connection: Connection): Effect.Effect<void, BackplaneError> {
    const { shared } = this
    return Effect.gen({ self: this }, function*() {
      this.client = String(yield* connection.ask(["CLIENT", "ID"]))
      // a server may keep its settings to itself
      const limits = yield* Effect.catch(
        connection.ask(["CONFIG", "GET", "proto-max-bulk-len"]),
        () => Effect.succeed({})
      )
      const limit = Number(Object.values(limits as Record<string, string>)[0])
      if (limit > 0) shared.largest = Math.min(shared.largest, limit)
      yield* connection.subscribe(this.channelOf(this.options.node), (bytes) => this.inbox.offer(bytes))
    })
  }

  private join(connection: Connection, ...lease: ReadonlyArray<string>): Effect.Effect<Joined, BackplaneError> {
    const { shared } = this
    return Effect.map(
      connection.run(Scripts.join, ["1", this.at, String(shared.seen), ...lease]),
      ([epoch, age, session]) => {
        shared.seen = Math.max(shared.seen, Number(epoch))
        return { epoch: Number(epoch), age: Math.max(0, Number(age)), session: session! }
      }
    )
  }

  private begin(connection: Connection): Effect.Effect<Joined, BackplaneError> {
    const { lease, node } = this.options
    return Effect.andThen(this.listen(connection), this.join(connection, node, String(Math.ceil(lease))))
  }

  /** Goes on with another connection, where the server has kept what it knew. */
  private resume(connection: Connection, { epoch }: Joined): Effect.Effect<void, BackplaneError> {
    return Effect.gen({ self: this }, function*() {
      // nothing that was sent on the old one may come after what is sent on this one
      yield* Effect.ignore(connection.ask(["CLIENT", "KILL", "ID", this.client]))
      const now = yield* this.join(connection)
      if (now.epoch !== epoch) return yield* new BackplaneError({ reason: "epoch" })
      this.inbox.gap(undefined)
      yield* this.listen(connection)
    })
  }

  /** Joins, and stays until the scope is closed. */
  get open(): Effect.Effect<Session, BackplaneError, Scope.Scope> {
    return Effect.map(this.line.join, (joined) => this.session(joined))
  }

  private session({ age, epoch, session }: Joined): Session {
    const { lease, node } = this.options
    const head = ["1", this.at, String(epoch), node, session]
    const millis = String(Math.ceil(lease))
    const run = (script: Scripts.Script, ...args: ReadonlyArray<string>) =>
      Effect.flatMap(this.line.use((connection) => connection.run(script, [...head, ...args])), checked)
    return {
      epoch,
      age,
      renew: (isLeaving) => Effect.asVoid(run(Scripts.renew, isLeaving ? "1" : "0", millis)),
      nodes: Effect.map(run(Scripts.nodes), ([, ...members]) => {
        const found: Array<Member> = []
        for (let i = 0; i < members.length; i += 2) found.push({ node: members[i]!, isLeaving: members[i + 1] === "1" })
        return found
      }),
      claim: (key, { as, onlyIfFree, over } = {}) =>
        Effect.map(
          run(Scripts.claim, key, ...tokenOf(as), ...tokenOf(over), onlyIfFree === true ? "1" : "0"),
          ([tag, first, number, of, theirs, rank]): Claim => {
            const token: Token = { epoch: Number(first), number: Number(number) }
            return tag === "taken"
              ? { _tag: "Taken", token, holder: holderOf(of!, theirs!, rank!) }
              : { _tag: "Claimed", token }
          }
        ),
      release: (key, token) => Effect.asVoid(run(Scripts.release, key, ...tokenOf(token), millis)),
      find: (key) =>
        Effect.map(
          run(Scripts.find, key),
          ([, of, theirs, rank]) => of === undefined ? undefined : holderOf(of, theirs!, rank!)
        ),
      publish: (to, batch) =>
        batch.length > this.shared.largest
          ? Effect.fail(new BackplaneError({ reason: "size" }))
          : this.line.use((connection) =>
            connection.publish(this.channelOf(to), Buffer.from(batch.buffer, batch.byteOffset, batch.length))
          ),
      take: this.inbox.take,
      // a lease that is not there any more has been left
      leave: Effect.asVoid(
        Effect.catchIf(run(Scripts.leave), (error) => error.reason !== "unreachable", () => Effect.void)
      )
    }
  }
}

/** What is known of an HTTP connection: whose it is, when it was used, and of its end what saw it and what was lost. */
import type * as Http from "node:http"
import type * as Net from "node:net"
import type { Snapshot } from "../../../Connection.ts"
import type { Reason } from "../../../ConnectionError.ts"
import type { Deadline, Known } from "../../../internal/connection/handle/explanation.ts"
import { Story, type What } from "../../../internal/telemetry/story.ts"
import * as Address from "../addresses/address.ts"
import { unsent } from "../stream/duplex.ts"
import { answering } from "../upgrade/answer.ts"
import { identityOf } from "../upgrade/certificate.ts"

const deadlineBy: Readonly<Partial<Record<Reason["_tag"], Deadline>>> = {
  FrameTimeout: "frame",
  IdleTimeout: "idle",
  WriteStalled: "write",
  MaxAge: "age"
}

export class Account {
  /** When it was accepted, on the monotonic clock. */
  readonly opened = performance.now()
  private readonly conn: Net.Socket
  private readonly openedAt: number
  private readonly limit: number
  private readonly local: string | undefined
  private readonly remote: string | undefined
  /** A connection that is gone knows no certificate any more, so it is read before. */
  private readonly identity: Snapshot["identity"]
  private readonly story = new Story()
  private heard = 0
  private written = 0
  private heardAt = this.opened
  private usedAt = 0
  private isUsed = false
  private taken = 0
  private stalledSince: number | undefined
  private writtenAt: number | undefined
  private lost: Known["lost"]
  private toldCode: number | undefined
  /** When the application got the connection itself, what was read and written by then, and what its request still has to come. */
  private lent:
    | { readonly at: number; readonly read: number; readonly written: number; readonly body: number }
    | undefined
  /** The time that a drain or a flush may take ran out. */
  private ranOut = false

  /** `openedAt` is on the wall clock. */
  constructor(conn: Net.Socket, recentEvents: number, openedAt: number) {
    this.conn = conn
    this.limit = recentEvents
    this.openedAt = openedAt
    this.local = Address.localOf(conn)
    this.remote = Address.remoteOf(conn)
    this.identity = identityOf(conn)
  }

  /** A request has begun, or its answer has left: what was read and written until now was so just now. */
  use(): void {
    this.usedAt = performance.now()
    this.isUsed = true
  }

  /** The application gets a request for an upgrade, and the connection with it: so many bytes of its body are still to come. */
  lend(body: number): void {
    const { bytesRead, bytesWritten } = this.conn
    this.lent = { at: performance.now(), read: bytesRead, written: bytesWritten, body }
  }

  get isLent(): boolean {
    return this.lent !== undefined
  }

  /** Whether the application went over to another protocol; it may also have answered in HTTP, or not yet. */
  get isForeign(): boolean {
    const { conn, lent } = this
    return lent !== undefined && conn.bytesWritten > lent.written && answering(conn) === undefined
  }

  /** How much of the body of what is lent came, where that is not all within `limit` milliseconds. */
  lateBody(at: number, limit: number): number | undefined {
    const { conn, lent } = this
    if (lent === undefined || limit === 0 || at - lent.at < limit) return undefined
    const received = conn.bytesRead - lent.read
    return received < lent.body ? received : undefined
  }

  /** Looks what was read and written since it looked last. */
  sample(at: number): void {
    const { bytesRead, bytesWritten } = this.conn
    const last = this.isUsed ? this.usedAt : at
    if (bytesRead !== this.heard) this.heardAt = last
    if (bytesWritten !== this.written) this.writtenAt = last
    this.heard = bytesRead
    this.written = bytesWritten
    this.isUsed = false
  }

  /** Whether the peer took none of our bytes for `limit` milliseconds. `unfair`: it could not show us. */
  isStalled(at: number, unfair: boolean, limit: number): boolean {
    const { conn, stalledSince } = this
    const waiting = unsent(conn)
    const taken = conn.bytesWritten - waiting
    const moved = unfair || stalledSince === undefined || taken !== this.taken
    this.taken = taken
    if (waiting === 0) this.stalledSince = undefined
    else if (moved) this.stalledSince = at
    else return limit > 0 && at - stalledSince >= limit
    return false
  }

  /** What of a snapshot is not about requests. */
  look(at: number) {
    const { conn, identity, local, openedAt, remote } = this
    return {
      local,
      remote,
      ...(identity === undefined ? {} : { identity }),
      openedAt,
      age: at - this.opened,
      quietFor: Math.max(0, at - (conn.bytesRead === this.heard ? this.heardAt : this.isUsed ? this.usedAt : at)),
      bytesIn: conn.bytesRead,
      bytesOut: conn.bytesWritten,
      lost: this.lost?.messages ?? 0
    }
  }

  note(at: number, what: What, detail?: string): void {
    if (this.limit > 0) this.story.note(this.limit, at, what, detail)
  }

  /** The first one counts. */
  seen(by: string): void {
    this.story.seenBy ??= by
  }

  /** The peer was told why, by this status. */
  tell(status: number): void {
    this.toldCode = status
  }

  giveUp(response: Http.ServerResponse | undefined): void {
    this.ranOut = true
    this.lose(response)
  }

  /** What has not left when the connection ends: it is known until the connection is destroyed. */
  lose(response: Http.ServerResponse | undefined): void {
    if (this.lost !== undefined && this.lost.bytes > 0) return
    const messages = response === undefined || response.writableFinished ? 0 : 1
    this.lost = { messages, bytes: Math.max(unsent(this.conn), this.lost?.bytes ?? 0) }
  }

  /** What a snapshot does not have. */
  known(reason: Reason | undefined): Known {
    const { lost, ranOut, story, toldCode, writtenAt } = this
    const offset = this.openedAt - this.opened
    const isOver = reason !== undefined
    return {
      seenBy: isOver ? story.seenBy : undefined,
      deadline: !isOver ? undefined : deadlineBy[reason._tag] ?? (ranOut ? "drain" : undefined),
      lastWrittenAt: writtenAt === undefined ? undefined : writtenAt + offset,
      lost: lost ?? { messages: 0, bytes: 0 },
      toldCode,
      recent: story.recent(offset)
    }
  }
}

/** What is known of the end of an HTTP connection, beside its reason: what saw it, when it was last used, and what was lost. */
import type * as Http from "node:http"
import type * as Net from "node:net"
import type { Reason } from "../../../ConnectionError.ts"
import type { Deadline, Known } from "../../../internal/connection/handle/explanation.ts"
import { Story, type What } from "../../../internal/telemetry/story.ts"
import { unsent } from "../stream/duplex.ts"

const deadlineBy: Readonly<Partial<Record<Reason["_tag"], Deadline>>> = {
  FrameTimeout: "frame",
  IdleTimeout: "idle",
  WriteStalled: "write",
  MaxAge: "age"
}

export class Ending {
  private readonly conn: Net.Socket
  private readonly limit: number
  private readonly story = new Story()
  private heard = 0
  private written = 0
  /** On the monotonic clock. */
  heardAt: number
  private writtenAt: number | undefined
  private lost: Known["lost"]
  private toldCode: number | undefined
  /** The time that a drain or a flush may take ran out. */
  private ranOut = false

  constructor(conn: Net.Socket, recentEvents: number, at: number) {
    this.conn = conn
    this.limit = recentEvents
    this.heardAt = at
  }

  /** Looks what was read and written since it looked last. */
  sample(at: number): void {
    const { bytesRead, bytesWritten } = this.conn
    if (bytesRead !== this.heard) this.heardAt = at
    if (bytesWritten !== this.written) this.writtenAt = at
    this.heard = bytesRead
    this.written = bytesWritten
  }

  /** How long nothing was read. */
  quietFor(at: number): number {
    return this.conn.bytesRead === this.heard ? Math.max(0, at - this.heardAt) : 0
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

  giveUp(): void {
    this.ranOut = true
  }

  /** What has not left when the connection ends: it is known until the connection is destroyed. */
  lose(response: Http.ServerResponse | undefined): void {
    if (this.lost !== undefined && this.lost.bytes > 0) return
    const messages = response === undefined || response.writableFinished ? 0 : 1
    this.lost = { messages, bytes: Math.max(unsent(this.conn), this.lost?.bytes ?? 0) }
  }

  get lostMessages(): number {
    return this.lost?.messages ?? 0
  }

  /** `offset` is from the monotonic clock to the wall clock. */
  known(reason: Reason | undefined, offset: number): Known {
    const { lost, ranOut, story, toldCode, writtenAt } = this
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

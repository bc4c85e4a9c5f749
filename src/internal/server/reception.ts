/** Connections from their accept to the end of their TLS handshake and upgrade: counted, and told of where they end there. */
import * as ConnectionError from "../../ConnectionError.ts"
import type { Policy } from "../../Policy.ts"
import type { Timers } from "../scheduling/timers.ts"
import type { Arriving, Failure } from "../transport/accepted.ts"
import type { Admission, Applicant, Limit } from "./admission.ts"

/** The reason of a refusal. */
export const refusedBy = (limit: Limit, policy: Policy): ConnectionError.Refused =>
  new ConnectionError.Refused(
    limit === "stopping" || limit === "maxPending" || limit === "memory" ? { limit } : { limit, allowed: policy[limit] }
  )

/** The reason of an end in the handshakes. */
export const reasonOf = (failure: Failure): ConnectionError.Reason => {
  switch (failure._tag) {
    case "Timeout":
      return new ConnectionError.HandshakeTimeout({ limit: failure.limit })
    case "Failed":
      return failure.cause instanceof ConnectionError.ConnectionError
        ? failure.cause.reason
        : new ConnectionError.HandshakeFailed({ cause: failure.cause })
    case "Answered":
      return new ConnectionError.HandshakeFailed({
        cause: `its request to upgrade was answered with ${failure.status}`
      })
    case "TooMany":
      return new ConnectionError.Refused({ limit: failure.limit, allowed: failure.allowed })
  }
}

/** What counting and telling need of a server. */
interface Counting {
  readonly policy: Policy
  readonly now: () => number
  readonly admission: Admission
  readonly counts: { opening: number }
  readonly report: (refused: {
    readonly _tag: "Refused"
    readonly remote: string | undefined
    readonly reason: ConnectionError.Reason
    readonly failure: undefined
  }) => void
}

/** One accepted connection. It becomes a guest, which is counted as this, or it ends. */
export class Arrival implements Arriving, Applicant {
  readonly remote: string | undefined
  host: string | undefined
  standing: Applicant["standing"] = "outside"
  place: Applicant["place"]
  /** Which limit keeps it out. */
  limit: Limit | undefined
  /** When it was admitted. */
  since = 0
  private readonly counting: Counting
  /** Kept while it waits. */
  private whenTurn: (() => void) | undefined

  constructor(counting: Counting, remote: string | undefined, whenTurn: () => void) {
    this.remote = remote
    this.counting = counting
    counting.counts.opening++
    const entered = counting.admission.enter(this)
    if (entered === "admitted") this.since = counting.now()
    else if (entered === "waiting") this.whenTurn = whenTurn
    else this.refuse(entered)
  }

  onTurn(): void {
    if (this.standing === "admitted") this.since = this.counting.now()
    else this.refuse("stopping")
    const { whenTurn } = this
    this.whenTurn = undefined
    whenTurn?.()
  }

  get state(): Arriving["state"] {
    return this.limit !== undefined ? "refused" : this.standing === "waiting" ? "waiting" : "admitted"
  }

  refusal(): string | undefined {
    if (this.limit === undefined && this.counting.admission.isLeaving) this.refuse("stopping")
    return this.limit === undefined ? undefined : refusedBy(this.limit, this.counting.policy).message
  }

  private refuse(limit: Limit): void {
    this.limit = limit
    this.tell(refusedBy(limit, this.counting.policy))
  }

  private tell(reason: ConnectionError.Reason): void {
    this.counting.report({ _tag: "Refused", remote: this.remote, reason, failure: undefined })
  }

  end(failure?: Failure): void {
    this.counting.admission.leave(this)
    this.counting.counts.opening--
    if (failure !== undefined && this.limit === undefined) this.tell(reasonOf(failure))
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// what was refused
// ---------------------------------------------------------------------------------------------------------------------

// milliseconds in which refusals are one line
const together = 1000

/** What refused: the limit, or the tag of another reason. */
const nameOf = (reason: ConnectionError.Reason): string => reason._tag === "Refused" ? reason.limit : reason._tag

/** Refusals, counted by what refused; and logged, a line a second at most, however many there are. */
export class Refusals {
  private readonly all = new Map<string, number>()
  private fresh = new Map<string, number>()
  private timer: { readonly cancel: () => void } | undefined
  private readonly time: Pick<Timers, "now" | "at">
  private readonly log: ((text: string) => void) | undefined

  /** Without `log` they are only counted. */
  constructor(time: Pick<Timers, "now" | "at">, log: ((text: string) => void) | undefined) {
    this.time = time
    this.log = log
  }

  add(reason: ConnectionError.Reason): void {
    const name = nameOf(reason)
    this.all.set(name, (this.all.get(name) ?? 0) + 1)
    if (this.log === undefined) return
    this.fresh.set(name, (this.fresh.get(name) ?? 0) + 1)
    this.timer ??= this.time.at(this.time.now() + together, () => this.flush())
  }

  get counts(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.all)
  }

  /** Logs what was not logged yet. */
  flush(): void {
    this.timer?.cancel()
    this.timer = undefined
    const { fresh } = this
    if (fresh.size === 0) return
    this.fresh = new Map()
    let count = 0
    const parts: Array<string> = []
    for (const [name, times] of fresh) {
      count += times
      parts.push(`${name} ${times}`)
    }
    this.log!(`refused ${count} connection${count === 1 ? "" : "s"}: ${parts.join(", ")}`)
  }
}

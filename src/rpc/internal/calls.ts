/** What a server knows of one client: which of its calls are unanswered, and when the last one is answered. */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { FromClientEncoded, FromServerEncoded } from "effect/rpc/RpcMessage"
import { constEof } from "effect/rpc/RpcMessage"
import type * as Connection from "../../Connection.ts"
import * as ConnectionError from "../../ConnectionError.ts"
import type { FromClient } from "./codec.ts"

type Failure = ConnectionError.ConnectionError

/** Gives a message of a client to Effect's RPC server. */
export type Deliver = (clientId: number, message: FromClientEncoded) => Effect.Effect<void>

export type ServerConnection = Connection.Connection<FromClient, FromServerEncoded>

const violation = (detail: string): Failure => ConnectionError.make(new ConnectionError.ProtocolViolation({ detail }))

/** Effect's server interrupts whoever gives it a request whose id is in use. */
const unlessInUse = (cause: Cause.Cause<never>): Effect.Effect<never, Failure> =>
  Cause.hasInterruptsOnly(cause)
    ? Effect.fail(violation("a request has the id of one that still runs"))
    : Effect.failCause(cause)

/** Ends after which the client hears no answer any more. */
const isGone = ({ reason }: Failure): boolean => {
  switch (reason._tag) {
    case "GoingAway":
    case "MaxAge":
    case "Swept":
      return false
    default:
      return true
  }
}

export class Calls {
  readonly connection: ServerConnection
  private readonly deliver: Deliver
  private readonly most: number
  private readonly headers: ReadonlyArray<[string, string]>
  private readonly refusal: (requestId: string | number) => FromServerEncoded
  /** Calls that have no answer. */
  private readonly open = new Set<string | number>()
  /** The client may ask nothing more; what it had asked is answered. */
  private isFinishing = false
  private hasEnded = false
  /** It has sent what gets no answer, or gets it before it has run: its id may be in use beyond `open`. */
  private mayRunUnseen = false
  private readonly answered = Deferred.makeUnsafe<void>()

  constructor(
    connection: ServerConnection,
    deliver: Deliver,
    most: number,
    headers: ReadonlyArray<[string, string]>,
    refusal: (requestId: string | number) => FromServerEncoded
  ) {
    this.connection = connection
    this.deliver = deliver
    this.most = most
    this.headers = headers
    this.refusal = refusal
  }

  /** Takes what comes until the connection ends. One that is asked to leave is done once every call has its answer. */
  get run(): Effect.Effect<void, Failure> {
    return Effect.catch(this.receive, (error) => isGone(error) ? Effect.fail(error) : this.finish)
  }

  // not a generator: what is nearly always one message is one effect, and nothing is made for a turn of the loop
  private get receive(): Effect.Effect<never, Failure> {
    const take = (message: FromClientEncoded) => this.take(message)
    return Effect.forever(
      Effect.flatMap(this.connection.receiveAll, (frames) => {
        const [first] = frames
        return frames.length === 1 && first.length === 1
          ? this.take(first[0]!)
          : Effect.forEach(frames.flat(), take, { discard: true })
      }),
      { disableYield: true }
    )
  }

  private take(message: FromClientEncoded): Effect.Effect<void, Failure> {
    const { connection, deliver, open } = this
    switch (message._tag) {
      case "Request": {
        // Effect's server would interrupt whoever gives it one of these
        if (this.hasEnded) return Effect.fail(violation("a request after the end of requests"))
        // the last one of a name counts: a client cannot say that it is another one
        const request = this.headers.length === 0
          ? message
          : { ...message, headers: [...(message.headers ?? []), ...this.headers] }
        const isNotification = message.isNotification === true
        if (isNotification || message.discard === true) this.mayRunUnseen = true
        if (isNotification) return deliver(connection.id, request)
        if (open.has(message.id)) return Effect.fail(violation(`request ${message.id} is not answered yet`))
        if (open.size >= this.most) return this.send(this.refusal(message.id))
        open.add(message.id)
        const delivered = deliver(connection.id, request)
        return this.mayRunUnseen ? Effect.catchCause(delivered, unlessInUse) : delivered
      }
      case "Eof":
        this.hasEnded = true
        return deliver(connection.id, message)
      default:
        return deliver(connection.id, message)
    }
  }

  /** Lets every call come to its end. The client's acknowledgements are not read any more: the outbox holds streams back. */
  private get finish(): Effect.Effect<void> {
    const { connection, deliver } = this
    return Effect.suspend(() => {
      this.isFinishing = true
      const acks = Effect.forEach([...this.open], (requestId) => deliver(connection.id, { _tag: "Ack", requestId }), {
        discard: true
      })
      const end = this.hasEnded ? Effect.void : deliver(connection.id, constEof)
      return Effect.andThen(Effect.andThen(acks, end), Deferred.await(this.answered))
    })
  }

  /** Effect's server has nothing more to say to this client. */
  end(): void {
    Deferred.doneUnsafe(this.answered, Exit.void)
  }

  // one for all answers: `Effect.catch` would make three closures for each
  private readonly unsent = (cause: Cause.Cause<Failure>): Effect.Effect<void> => {
    const failed = cause.reasons.find(Cause.isFailReason)
    if (failed === undefined) return Effect.failCause(cause as Cause.Cause<never>)
    const { error } = failed
    return Effect.flatMap(
      this.connection.snapshot,
      ({ reason }) => reason === error.reason ? Effect.void : Effect.die(error)
    )
  }

  /**
   * Sends an answer. One that cannot be sent, because it cannot be encoded or is too large, dies: Effect's server then says so to
   * the client. One for which there is no client any more is dropped.
   */
  send(response: FromServerEncoded): Effect.Effect<void> {
    const { connection, open } = this
    const sent = Effect.catchCause(connection.send(response), this.unsent)
    switch (response._tag) {
      case "Exit":
        open.delete(response.requestId)
        return sent
      case "Defect":
        open.clear()
        return sent
      case "Chunk":
        return Effect.andThen(
          sent,
          Effect.suspend(() =>
            this.isFinishing
              ? this.deliver(connection.id, { _tag: "Ack", requestId: response.requestId })
              : Effect.void
          )
        )
      default:
        return sent
    }
  }
}

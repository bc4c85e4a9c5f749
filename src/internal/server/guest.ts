/** The life of one accepted socket: it is admitted, waits or is refused; it is served; it is forgotten. */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Socket from "effect/socket/Socket"
import * as Defects from "../endings/defects.ts"
import { Refusing } from "../endings/refusing.ts"
import * as Supervised from "../scheduling/supervised.ts"
import type { Limit } from "./admission.ts"
import { type Arrival, refusedBy } from "./reception.ts"
import { serve } from "./serving.ts"
import { Guest, placeOf, type Served, type ServerState } from "./state.ts"

// milliseconds that a peer has to greet before it is told that it is refused: a round trip, also by satellite
const refusalLimit = 1000

/** Opens a connection only to tell the peer which limit keeps it out. */
const refuse = <C extends Served<Out>, Out, Session, R>(
  { application, policy, tell }: ServerState<C, Out, Session, R>,
  guest: Guest<C>,
  limit: Limit
) => {
  const { refusal } = application
  const reason = refusedBy(limit, policy)
  // a protocol may wait for its peer to speak first; a silent peer is not worth waiting for
  const open = Effect.suspend(() => application.open(guest.socket)).pipe(
    Effect.provideService(Refusing, () => reason),
    Effect.timeoutOption(refusalLimit)
  )
  return Effect.flatMap(open, (opened) => {
    guest.claim()
    if (Option.isNone(opened)) return Effect.void
    const connection = opened.value
    return Effect.andThen(
      refusal === undefined ? Effect.void : Effect.catchCause(
        Effect.suspend(() => connection.send(refusal(reason))),
        (cause) => Defects.logged("refusal", cause, { id: connection.id, remote: guest.remote })
      ),
      connection.closeWith(reason)
    )
  }).pipe(
    Effect.scoped,
    Effect.interruptible,
    Effect.catchCause((cause) => Defects.logged("open", cause, placeOf(guest))),
    // of one that was refused at its accept the application knows
    Effect.andThen(
      guest.arrival === undefined
        ? tell({ _tag: "Refused", remote: guest.remote, reason, failure: undefined })
        : Effect.void
    )
  )
}

/** Waits until the guest is admitted, or the server stops. */
const turnOf = (guest: Guest<unknown>): Effect.Effect<void> =>
  Effect.callback((resume) => {
    if (guest.standing !== "waiting") return resume(Effect.void)
    // in a task of its own: a queue of connections that end at once would be as many frames of one stack
    guest.onTurn = () => resume(Effect.yieldNow)
  })

/** What the fiber of a guest does. It is interruptible only where it waits for the peer or runs the application. */
const attend = <C extends Served<Out>, Out, Session, R>(server: ServerState<C, Out, Session, R>, guest: Guest<C>) => {
  const { arrival } = guest
  const entered = arrival === undefined ? server.admission.enter(guest) : arrival.limit ?? "admitted"
  if (entered === "admitted") return serve(server, guest)
  if (entered !== "waiting") return refuse(server, guest, entered)
  return Effect.flatMap(
    turnOf(guest),
    () => guest.standing === "admitted" ? serve(server, guest) : refuse(server, guest, "stopping")
  )
}

/**
 * Takes an accepted socket, and calls `whenClaimed` when the socket has an owner or will have none.
 *
 * The guest gets a fiber of its own: neither an accept error nor the end of the accept loop ends the connections that are
 * alive, and `SocketServer.run` interrupts what it started when it ends.
 */
export const receive = <C extends Served<Out>, Out, Session, R>(
  server: ServerState<C, Out, Session, R>,
  socket: Socket.Socket,
  context: Context.Context<R>,
  whenClaimed: () => void,
  arrival?: Arrival
): void => {
  const guest = new Guest<C>(server, socket, whenClaimed, arrival)
  server.guests.add(guest)
  if (arrival === undefined) server.counts.opening++
  const life = Effect.withFiber((fiber) => {
    guest.fiber = fiber
    return attend(server, guest)
  })
  Supervised.spawn(context, "guest of a server", life as Effect.Effect<void, never, R>, guest, {
    uninterruptible: true
  })
}

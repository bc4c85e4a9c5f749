/** What runs in a try of a client, its dial and its greeting, cannot wait for the client, which waits for it. */
import * as Effect from "effect/Effect"
import * as ConnectionError from "../../ConnectionError.ts"
import { isInside } from "../endings/inside.ts"

const fromWithin = ConnectionError.make(new ConnectionError.Offline({ messages: 0, bytes: 0, within: "onConnect" }))

/** Fails where this fiber belongs to a try of the client. */
export const greets = (client: object): Effect.Effect<void, ConnectionError.ConnectionError> =>
  Effect.flatMap(isInside(client), (isTrying) => isTrying ? Effect.fail(fromWithin) : Effect.void)

/** What the clients may call: the contract of both ends. */
import { Schema } from "effect"
import { Rpc, RpcGroup } from "effect/rpc"

/** Takes a while, and must not be done twice. */
const Bill = Rpc.make("Bill", {
  payload: { order: Schema.Finite },
  success: Schema.Struct({ order: Schema.Finite, by: Schema.String })
})

/** Counts from 1, a number every 100 ms. A server that stops lets it end. */
const Count = Rpc.make("Count", { payload: { to: Schema.Finite }, success: Schema.Finite, stream: true })

export const Calls = RpcGroup.make(Bill, Count)

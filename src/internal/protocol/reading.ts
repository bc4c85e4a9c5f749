/** What a received frame means: which frames may come depends on which came before. */
import { type Advice, ProtocolViolation } from "../../ConnectionError.ts"
import type { Signal } from "../../Heartbeat.ts"
import { reasonOf, type Role } from "./closes.ts"
import { BadFrame, ControlFrame, names, spoken } from "./frames.ts"

/** What a connection of the native protocol reads and writes beneath the application's messages. */
export type Read<In> = In | ControlFrame | BadFrame
export type Written<Out> = Out | ControlFrame

const violation = (detail: string): Signal<never> => ({ _tag: "Violation", reason: new ProtocolViolation({ detail }) })

/** Makes the reader of one connection, for a heartbeat. */
export const reader = <In, Out>(role: Role) => (): (message: Read<In>) => Signal<Written<Out>> | undefined => {
  const greeting = role === "server" ? "Hello" : "Welcome"
  let greeted = false
  let minPingEvery = 0
  // a client advises nothing, and both zero is no advice
  const given = (advice: Advice): Advice | undefined =>
    role === "client" && advice.after + advice.spread > 0 ? advice : undefined
  return (message) => {
    if (message instanceof BadFrame) return violation(message.detail)
    if (!(message instanceof ControlFrame)) {
      return greeted ? undefined : violation(`DATA came before ${names[greeting]}`)
    }
    const { control } = message
    if (control._tag === "Close") {
      return { _tag: "End", reason: reasonOf(control, spoken, minPingEvery, role), advice: given(control.advice) }
    }
    const name = names[control._tag]
    if (!greeted) {
      if (control._tag !== greeting) return violation(`${name} came before ${names[greeting]}`)
      greeted = true
      // the greeting receives both
      if (control._tag !== "Welcome") return undefined
      minPingEvery = control.minPingEvery
      return { _tag: "Data", advice: given(control.advice) }
    }
    switch (control._tag) {
      case "Ping":
        return {
          _tag: "Ping",
          answer: new ControlFrame({ _tag: "Pong", token: control.token }),
          advice: given(control.advice)
        }
      case "Pong":
        return { _tag: "Pong", token: control.token }
      case "GoingAway":
        return role === "client"
          ? { _tag: "Leave", advice: given(control.advice) }
          : violation(`${name} came from a client`)
      default:
        return violation(`${name} came after the greeting`)
    }
  }
}

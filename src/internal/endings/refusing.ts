/** Whether a server refuses the connection that is opened: asked where a protocol has a first word of the server. */
import * as Context from "effect/Context"
import type * as ConnectionError from "../../ConnectionError.ts"

/** Given to what opens a connection of a server: the reason to say in place of the first word, or undefined. */
export const Refusing = Context.Reference<() => ConnectionError.Reason | undefined>("holdfast/Server/Refusing", {
  defaultValue: () => () => undefined
})

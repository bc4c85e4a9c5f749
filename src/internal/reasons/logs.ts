/** Log lines with a cause in which no text of a peer commands a terminal or forges a line. */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as LogLevel from "effect/LogLevel"
import { isPlain, oneLine } from "./text.ts"

// an error in an error in an error: deeper ones are not looked into
const deepest = 8

/** The lines of a stack below its message, which may have lines that look like them. */
const framesOf = (stack: string, message: string): string => {
  const at = stack.indexOf(message)
  const lines = (at < 0 ? stack : stack.slice(at + message.length)).split("\n")
  return lines.filter((line) => /^\s+at /.test(line)).map((line) => `\n    ${oneLine(line)}`).join("")
}

/** The same error with plain texts: it inherits everything else from the original. */
const plainError = (error: Error, depth: number): Error => {
  const changed: PropertyDescriptorMap = {}
  const change = (name: string, value: unknown): void => {
    changed[name] = { value, configurable: true, enumerable: false, writable: true }
  }
  const message = String(error.message)
  if (!isPlain(message)) change("message", oneLine(message))
  for (const name of Object.getOwnPropertyNames(error)) {
    if (name === "message" || name === "stack") continue
    const value: unknown = Reflect.get(error, name)
    const plain = plainValue(value, depth - 1)
    if (plain !== value) change(name, plain)
  }
  const { stack } = error
  if (typeof stack === "string" && (changed.message !== undefined || !isPlain(stack.replaceAll("\n", "")))) {
    change("stack", `${oneLine(error.name)}: ${oneLine(message)}${framesOf(stack, message)}`)
  }
  return Object.keys(changed).length === 0 ? error : Object.create(error, changed)
}

const isRecord = (value: object): boolean => {
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === Object.prototype || prototype === null
}

const plainEntries = (value: object, depth: number): object => {
  let isChanged = false
  const entries = Object.entries(value).map(([name, one]) => {
    const [key, plain] = [plainValue(name, 0) as string, plainValue(one, depth - 1)]
    if (key !== name || plain !== one) isChanged = true
    return [key, plain] as const
  })
  return isChanged ? Object.fromEntries(entries) : value
}

const plainValue = (value: unknown, depth: number): unknown => {
  if (typeof value === "string") return isPlain(value) ? value : oneLine(value)
  if (typeof value !== "object" || value === null || depth < 0) return value
  if (Cause.isCause(value)) return plainCause(value, depth)
  if (value instanceof Error) return plainError(value, depth)
  if (Array.isArray(value)) {
    const all = value.map((one) => plainValue(one, depth - 1))
    return all.some((one, i) => one !== value[i]) ? all : value
  }
  return isRecord(value) ? plainEntries(value, depth) : value
}

const plainCause = <E>(cause: Cause.Cause<E>, depth: number): Cause.Cause<E> => {
  let isChanged = false
  const reasons = cause.reasons.map((reason) => {
    if (reason._tag === "Interrupt") return reason
    const value = reason._tag === "Fail" ? reason.error : reason.defect
    const plain = plainValue(value, depth)
    if (plain === value) return reason
    isChanged = true
    const made = reason._tag === "Fail" ? Cause.makeFailReason(plain as E) : Cause.makeDieReason(plain)
    return made.annotate(Context.makeUnsafe(new Map(reason.annotations)))
  })
  return isChanged ? Cause.fromReasons(reasons as never) : cause
}

/** What is logged, without anything that a terminal or the reader of a log obeys. It is the same object where it has none. */
export const plain = <A>(value: A): A => {
  try {
    return plainValue(value, deepest) as A
  } catch {
    // a getter that throws
    return "no detail given" as A
  }
}

/** A cause for a log. */
export const plainly = <E>(cause: Cause.Cause<E>): Cause.Cause<E> => {
  try {
    return plainCause(cause, deepest)
  } catch {
    return Cause.die("no detail given")
  }
}

/** Writes a line of the library. A logger that throws costs the line, and nothing of what goes on where it is written. */
export const logLine = (level: LogLevel.Severity, ...line: ReadonlyArray<unknown>): Effect.Effect<void> =>
  Effect.ignoreCause(Effect.logWithLevel(level)(...line))

/** Logs an error with its cause. */
export const logError = (message: string, cause: Cause.Cause<unknown>): Effect.Effect<void> =>
  Effect.suspend(() => logLine("Error", oneLine(message), plainly(cause)))

/** Logs a warning with what it is about. */
export const logWarning = (message: string, about: unknown): Effect.Effect<void> =>
  Effect.suspend(() => logLine("Warn", oneLine(message), plain(about)))

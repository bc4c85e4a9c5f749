export * as Dialer from "./Dialer.ts"
export * as Listener from "./Listener.ts"

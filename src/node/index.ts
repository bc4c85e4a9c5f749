export * as Dialer from "./Dialer.ts"
export * as HttpClient from "./HttpClient.ts"
export * as HttpServer from "./HttpServer.ts"
export * as Listener from "./Listener.ts"

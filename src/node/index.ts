export * as Admin from "./Admin.ts"
export * as Certificates from "./Certificates.ts"
export * as Dialer from "./Dialer.ts"
export * as HttpClient from "./HttpClient.ts"
export * as HttpServer from "./HttpServer.ts"
export * as Listener from "./Listener.ts"
export * as Proxy from "./Proxy.ts"
export * as Shutdown from "./Shutdown.ts"
export {
  /**
   * The exit code of a server's process; see `Shutdown.teardown`.
   *
   * @category running
   * @since 0.1.0
   */
  teardown
} from "./Shutdown.ts"
export * as SystemMetrics from "./SystemMetrics.ts"
export * as Upgrade from "./Upgrade.ts"
export * as Workers from "./Workers.ts"

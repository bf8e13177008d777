// The manifest of each browser, out of one place. Every permission stands here with its reason; docs/how-to/connect-your-browser.md
// tells the same to people, and a test compares the two.

// The public half of a key whose only use is that an unpacked extension has the same id everywhere; stores have their own.
const KEY =
  'MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEApM4sbfy9JNOJqFJTPny7zF7VYMe5T9x26ccsM2fHN4sMMbrI7iPSCfK+RKiy5ey98Rst2JQRtVQdKBFzgq3xLQlLw60Wiu7Oh2cKZAFY4JBoDrxSfzp1ZHOLXebcKkVANt8Q2oldcSrh22XgrL8z/mEMMlbHtNs0tzdPz2VtIm+M9m8/bX8C2x5oHt1c8f530BTsyByr1/3LzATd9n+eg3uyT2AEsDHbERSkTj2NKEzzRrwB+srPfzUv6XiJee58HQaZXdCSvpj7f1YEE368nP2L5K+oJFerj3nz3n3CgopetVFrKd3BuWM+yd5Wj53A0RPuyLCkPBWOuohcPD2jxQIDAQAB'

const PERMISSIONS = [
  'nativeMessaging', // to reach HybridGW by the program that it has registered with the browser
  'storage', // the settings, what has arrived, and what waits to be sent
  'alarms', // to look again for HybridGW after the browser has put the extension to sleep
  'contextMenus', // "Send to a device" on links, selected text and pages
  'activeTab', // address and title of the tab in front, when the person opens the popup or uses a menu or key
]

const OPTIONAL = [
  'tabs', // for the activity log, asked for when the person turns it on: address and title of the tab in front
]

const PAGES = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "object-src 'none'",
  // Firefox would turn ws: into wss: unless a policy names it.
  "connect-src 'self' ws://127.0.0.1:* http://127.0.0.1:*",
].join('; ')

const icons = (name) => Object.fromEntries([16, 32, 48, 128].map((size) => [size, `icons/${name}-${size}.png`]))

export function manifest(browser, version, { forStore }) {
  const isFirefox = browser === 'firefox'
  return {
    manifest_version: 3,
    name: '__MSG_name__',
    description: '__MSG_description__',
    version,
    default_locale: 'en',
    icons: icons('hybridgw'),
    action: { default_popup: 'popup.html', default_title: '__MSG_name__', default_icon: icons('hybridgw') },
    options_ui: { page: 'options.html', open_in_tab: true },
    background: isFirefox ? { scripts: ['background.js'] } : { service_worker: 'background.js' },
    permissions: PERMISSIONS,
    optional_permissions: OPTIONAL,
    omnibox: { keyword: 'task' },
    commands: {
      _execute_action: { suggested_key: { default: 'Alt+Shift+H' } },
      'send-tab': { suggested_key: { default: 'Alt+Shift+S' }, description: '__MSG_commandSendTab__' },
    },
    content_security_policy: { extension_pages: PAGES },
    ...(isFirefox
      ? {
          browser_specific_settings: {
            gecko: { id: 'extension@hybridgw', strict_min_version: '140.0', data_collection_permissions: { required: ['none'] } },
            gecko_android: { strict_min_version: '142.0' },
          },
        }
      : { minimum_chrome_version: '137', ...(forStore ? {} : { key: KEY }) }),
  }
}

// The page that shows /openapi.json. What a login gives is used for what is tried after it, and is kept nowhere: a page that
// is loaded anew knows no token.
const base = new URL('.', location.href).href.replace(/\/$/, '');
const dark = matchMedia('(prefers-color-scheme: dark)');
const signed = document.querySelector('#signed');
const signedOut = signed.innerHTML;

followColours();
dark.addEventListener('change', followColours);

const spec = await (await fetch('openapi.json')).json();
const ui = SwaggerUIBundle({
  domNode: document.querySelector('#api'),
  spec: { ...spec, servers: [{ url: base }] }, // where this page came from, whatever name it was asked by
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  tryItOutEnabled: true,
  validatorUrl: null, // nobody else is told
  queryConfigEnabled: false, // a link to this page cannot make it show another API
  responseInterceptor: takeTokens,
});

function takeTokens(response) {
  const path = response.url?.slice(base.length);
  if (response.status !== 200) return response;
  if (path === '/logout') {
    ui.authActions.logout(['access', 'refresh']);
    signed.innerHTML = signedOut;
  }
  if (path === '/login' || path === '/refresh') {
    const { access_token, refresh_token } = JSON.parse(response.text);
    if (!access_token) return response; // they came as cookies
    ui.preauthorizeApiKey('access', access_token);
    ui.preauthorizeApiKey('refresh', refresh_token);
    signed.textContent = 'Logged in: the tokens of your last login are used.';
  }
  return response;
}

function followColours() {
  document.documentElement.classList.toggle('dark-mode', dark.matches);
}

require_relative "boot"

require "rails"
require "active_record/railtie"
require "active_storage/engine"
require "action_controller/railtie"
require "action_view/railtie"
require "active_job/railtie"
require "action_cable/engine"
require "sprockets/railtie"

Bundler.require(*Rails.groups)

module FarmShop
  class Application < Rails::Application
    config.load_defaults 6.1

    config.secret_key_base = ENV.fetch("SECRET_TOKEN")
    config.active_job.queue_adapter = :sidekiq
    config.generators.system_tests = nil
  end
end

# Looks at the whole photo, as a thumbnailer would, and tells everybody who has the page open.
class WeighPhotoJob < ApplicationJob
  def perform(product)
    product.update!(photo_digest: Digest::SHA256.hexdigest(product.photo.download))
    html = ApplicationController.render(partial: "products/product", locals: { product: product })
    ActionCable.server.broadcast("products", { id: ActionView::RecordIdentifier.dom_id(product), html: html })
  end
end
